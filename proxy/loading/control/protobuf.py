"""Control messages, written and read whole: strings, booleans, numbers and messages.

They have a handful of fields and are sent a few times a minute; their numbers are fixed by published
``.proto`` files, named where each is used.
"""

from __future__ import annotations

from proxy.protobuf.wire import LENGTH, VARINT, cut, encode_field, encode_varint, key, read_varint

__all__ = ("Fields", "decode", "encode", "text")

Fields = dict[int, list[int | bytes]]
"""Decoded fields by number, each as often as it came: numbers as int, everything else as bytes."""


def encode(*fields: tuple[int, str | bytes | int]) -> bytes:
    """A message of (number, value) pairs: text and bytes length-delimited, numbers as varints."""
    return b"".join([_field(number, value) for number, value in fields])


def _field(number: int, value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        return encode_varint(key(number, VARINT)) + encode_varint(value)
    return encode_field(key(number, LENGTH), value.encode() if isinstance(value, str) else value)


def decode(data: bytes) -> Fields:
    """The fields of a message; ValueError when it is cut short."""
    fields: Fields = {}
    for tag, _, start, end in cut(data):
        value: int | bytes = read_varint(data, start, end)[0] if tag & 7 == VARINT else data[start:end]
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def text(fields: Fields, number: int) -> str:
    """The last value of a string field, or empty."""
    value = fields.get(number, [b""])[-1]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
