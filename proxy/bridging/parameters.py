"""Parameters of the Open Inference Protocol: JSON values on one side, map entries on the other.

Theory of operation
-------------------
A JSON value is a truth value, a whole number, a number or a text, and ``InferParameter`` has a field for each
(whole numbers above 2^63 go to its unsigned one). One that is null is not there. Other values, such as lists,
have no place there and are refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from proxy.protobuf import inference as pb
from proxy.protobuf.message import Message
from proxy.protobuf.wire import FIXED64, VARINT, cut, encode_field, encode_varint, key, read_varint, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("Parameter", "decode_parameters", "encode_parameters")

Parameter = bool | int | float | str

_BOOL: Final = key(1, VARINT)
_INT64: Final = key(2, VARINT)
_STRING: Final = key(3)
_DOUBLE: Final = key(4, FIXED64)
_UINT64: Final = key(5, VARINT)
_NUMBERS: Final = frozenset((_BOOL, _INT64, _UINT64))
_ENTRY: Final = frozenset((pb.ENTRY_KEY, pb.ENTRY_VALUE))


def encode_parameters(tag: int, parameters: Mapping[str, object]) -> bytes:
    """The map field `tag` with these parameters; raises ValueError for one that has no place in it."""
    return b"".join([
        encode_field(
            tag,
            encode_field(pb.ENTRY_KEY, name.encode()) + encode_field(pb.ENTRY_VALUE, _encode(name, value)),
        )
        for name, value in parameters.items()
        if value is not None
    ])  # fmt: skip


def decode_parameters(fields: Iterable[bytes]) -> dict[str, Parameter]:
    """The parameters in these fields of a map, key and all; one without a value is left out.

    Raises ValueError.
    """
    parameters = {}
    for entry in fields:
        ((_, _, at, end),) = cut(entry)
        message = Message(entry, at, end, _ENTRY)
        value = _decode(message.value(pb.ENTRY_VALUE))
        if value is not None:
            parameters[message.value(pb.ENTRY_KEY).decode()] = value
    return parameters


def _encode(name: str, value: object) -> bytes:
    match value:
        case bool():
            return encode_varint(_BOOL) + encode_varint(value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return encode_varint(_INT64) + encode_varint(value)
        case int() if 0 <= value < 1 << 64:
            return encode_varint(_UINT64) + encode_varint(value)
        case float():
            return encode_varint(_DOUBLE) + struct.pack("<d", value)
        case str():
            return encode_field(_STRING, value.encode())
        case _:
            raise ValueError(f"parameter {name} is no text, number or truth value")


def _decode(choice: bytes) -> Parameter | None:
    found: Parameter | None = None
    for tag, _, at, end in cut(choice):
        if tag == _STRING:
            found = choice[at:end].decode()
        elif tag == _DOUBLE:
            (found,) = struct.unpack("<d", choice[at:end])
        elif tag in _NUMBERS:
            number, _ = read_varint(choice, at, end)
            found = bool(number) if tag == _BOOL else signed(number) if tag == _INT64 else number
    return found
