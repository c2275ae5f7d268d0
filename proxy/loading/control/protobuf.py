"""As much of the protobuf wire format as control messages need: strings, booleans, numbers and messages.

Control messages have a handful of fields and are sent a few times a minute; their numbers are fixed by
published ``.proto`` files, named where each is used.
"""

from __future__ import annotations

__all__ = ("Fields", "decode", "encode", "text")

Fields = dict[int, list[int | bytes]]
"""Decoded fields by number, each as often as it came: numbers as int, everything else as bytes."""

_VARINT, _BYTES = 0, 2


def encode(*fields: tuple[int, str | bytes | int]) -> bytes:
    """A message of (number, value) pairs: text and bytes length-delimited, numbers as varints."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | _BYTES) + _varint(len(data)) + data
    return bytes(out)


def decode(data: bytes) -> Fields:
    """The fields of a message; ValueError when it is cut short."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _read_varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                size, at = _read_varint(data, at)
                value, at = data[at : at + size], at + size
            case 5:
                value, at = data[at : at + 4], at + 4
            case other:
                raise ValueError(f"unknown wire type {other}")
        if at > len(data):
            raise ValueError("message cut short")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def text(fields: Fields, number: int) -> str:
    """The last value of a string field, or empty."""
    value = fields.get(number, [b""])[-1]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("message cut short")
