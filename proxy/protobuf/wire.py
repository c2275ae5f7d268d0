"""The protobuf wire format, as far as taking messages apart and putting them together needs it.

Theory of operation
-------------------
A message is a row of fields, each a key (field number and wire type) and a value whose end the wire type
tells. So a message can be cut without knowing its definition, and what is not understood can be carried along
as it came. `cut` says where each field stands; nothing is copied or decoded until somebody asks. A submessage
is cut within its parent, by its place.

Keys are compared whole: `key(5)` is field 5 with a length before its bytes. A field that comes with another
wire type than its definition says is, to every parser, an unknown one; so it is here.

Packed numbers are a run of varints without anything between. A varint ends at the first byte below 0x80,
which makes counting and cutting a run a matter of translating bytes, done at memory speed.

Groups (wire types 3 and 4) are long deprecated; a message with one is refused as malformed.
"""

from __future__ import annotations

from itertools import accumulate, compress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "Field",
    "Malformed",
    "count_varints",
    "cut",
    "cut_varints",
    "encode_field",
    "encode_varint",
    "key",
    "read_varint",
    "read_varints",
    "signed",
)

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

Field = tuple[int, int, int, int]
"""A field's key; where it starts, where its value starts (behind the length, if any), where it ends."""

_WIDTHS: Final = {FIXED64: 8, FIXED32: 4}
_SMALL: Final = tuple(bytes((value,)) for value in range(0x80))
_LONGEST_VARINT: Final = 10
_IS_LAST: Final = bytes(byte < 0x80 for byte in range(0x100))
_CONTINUED: Final = bytes(range(0x80, 0x100))


class Malformed(ValueError):
    """The bytes are no message."""


def key(number: int, wire_type: int = LENGTH) -> int:
    """What the key of field `number` reads as."""
    return number << 3 | wire_type


def cut(data: bytes, at: int = 0, end: int | None = None) -> list[Field]:
    """The fields of the message that stands in `data` from `at` to `end`, in order; raises `Malformed`."""
    if end is None:
        end = len(data)
    fields = []
    while at < end:
        start = at
        tag, at = (data[at], at + 1) if data[at] < 0x80 else read_varint(data, at, end)
        wire_type = tag & 7
        if wire_type == LENGTH:
            size, value = (data[at], at + 1) if at < end and data[at] < 0x80 else read_varint(data, at, end)
            at = value + size
        elif wire_type == VARINT:
            value = at
            _, at = read_varint(data, at, end)
        else:
            value, at = at, at + _width(wire_type)
        if at > end or tag < 8:
            raise Malformed("a field is cut short or has number 0")
        fields.append((tag, start, value, at))
    return fields


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `at` (not negative) and where it ends; raises `Malformed`."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for place in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[place]
        value |= (byte & 0x7F) << 7 * (place - at)
        if byte < 0x80:
            return value, place + 1
    raise Malformed("a number is cut short or too long")


def read_varints(data: bytes, at: int, end: int) -> list[int]:
    """A run of packed numbers; raises `Malformed`."""
    values = []
    while at < end:
        value, at = read_varint(data, at, end)
        values.append(value)
    return values


def signed(value: int) -> int:
    """A varint as an ``int64`` or ``int32``, whose negative values are written as 64-bit complements."""
    return value - (1 << 64) if value >> 63 else value


def encode_varint(value: int) -> bytes:
    """`value` (negative ones as 64-bit complements)."""
    if 0 <= value < 0x80:
        return _SMALL[value]
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(tag: int, value: bytes) -> bytes:
    """A field whose value has a length before it; `tag` is its `key`."""
    return b"%b%b%b" % (encode_varint(tag), encode_varint(len(value)), value)


def count_varints(data: bytes) -> int:
    """How many numbers a packed run holds; -1 when the last is cut short."""
    if data and data[-1] >= 0x80:
        return -1
    return len(data.translate(None, _CONTINUED))


def cut_varints(data: bytes, counts: Sequence[int]) -> list[bytes]:
    """The runs of `counts` numbers each that a packed run of ``sum(counts)`` consists of."""
    if len(data) == sum(counts):
        ends: Sequence[int] = range(1, len(data) + 1)
    else:
        ends = list(compress(range(1, len(data) + 1), data.translate(_IS_LAST)))
    stops = [ends[upto - 1] if upto else 0 for upto in accumulate(counts)]
    return [data[start:stop] for start, stop in zip((0, *stops), stops, strict=False)]


def _width(wire_type: int) -> int:
    width = _WIDTHS.get(wire_type)
    if width is None:
        raise Malformed(f"unknown wire type {wire_type}")
    return width
