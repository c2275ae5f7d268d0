"""The element types of tensors in the Open Inference Protocol, and their values as bytes.

Theory of operation
-------------------
A tensor's elements are little-endian, one after the other, without padding. ``BYTES`` elements have no fixed
width: each is preceded by its length, four bytes. ``BF16`` is the upper half of an ``FP32`` (rounded to the
nearest, ties to even, on the way in).
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("WIDTHS", "decode", "encode")

_FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "INT8": "b",
    "UINT16": "H",
    "INT16": "h",
    "FP16": "e",
    "UINT32": "I",
    "INT32": "i",
    "FP32": "f",
    "UINT64": "Q",
    "INT64": "q",
    "FP64": "d",
}
_BRAIN: Final = "BF16"
_LENGTH: Final = 4

WIDTHS: Final[Mapping[str, int]] = MappingProxyType(
    {name: struct.calcsize("<" + code) for name, code in _FORMATS.items()} | {_BRAIN: 2}
)
"""Bytes of one element, for all types but ``BYTES``."""


def decode(datatype: str, data: bytes) -> list[object]:
    """The elements of `data`: bool, int, float or bytes; ValueError when they are not whole."""
    if datatype == "BYTES":
        return _split(data)
    width = WIDTHS.get(datatype)
    if width is None or len(data) % width:
        raise ValueError(f"{len(data)} bytes are no elements of {datatype}")
    count = len(data) // width
    if datatype != _BRAIN:
        return list(struct.unpack(f"<{count}{_FORMATS[datatype]}", data))
    words = struct.pack(f"<{count}I", *[half << 16 for half in struct.unpack(f"<{count}H", data)])
    return list(struct.unpack(f"<{count}f", words))


def encode(datatype: str, values: Sequence[object]) -> bytes:
    """The bytes of `values`; ValueError when one is not of that type."""
    if datatype == "BYTES":
        return b"".join([_prefixed(value) for value in values])
    code = _FORMATS.get("FP32" if datatype == _BRAIN else datatype)
    if code is None:
        raise ValueError(f"unknown datatype {datatype}")
    kinds = _KINDS.get(code, (int,))
    if not all(type(value) in kinds for value in values) or (code == "?" and not _TRUTHS.issuperset(values)):
        raise ValueError(f"an element is no {datatype}")
    try:
        data = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"an element does not fit {datatype}: {error}") from None
    return data if datatype != _BRAIN else _upper_halves(data)


_TRUTHS: Final[frozenset[object]] = frozenset((False, True))  # and so 0 and 1
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "?": (bool, int),
    "e": (int, float),
    "f": (int, float),
    "d": (int, float),
}


def _upper_halves(data: bytes) -> bytes:
    words = struct.unpack(f"<{len(data) // 4}I", data)
    return struct.pack(f"<{len(words)}H", *[_rounded(word) for word in words])


def _rounded(word: int) -> int:
    if word & 0x7FFFFFFF > 0x7F800000:  # not a number: rounding could make it infinite
        return word >> 16 | 0x40
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16


def _prefixed(value: object) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, bytes):
        raise ValueError("an element is no BYTES")  # noqa: TRY004  callers expect one exception for bad data
    return len(data).to_bytes(_LENGTH, "little") + data


def _split(data: bytes) -> list[object]:
    elements: list[object] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            raise ValueError("a BYTES element is cut short")
        elements.append(data[start:at])
    return elements
