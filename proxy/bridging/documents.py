"""Messages as JSON documents, by the table of `forms`.

Theory of operation
-------------------
Numbers and texts that a message leaves out have their defaults, and are shown, as Triton's REST form shows
them; messages that it leaves out, and choices that were not made, are not. A field of which the last one
counts may come several times; one that is not in the table, or comes with another wire type than it should,
is passed over.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from proxy.bridging.forms import FORMS, WORDS, Field
from proxy.protobuf.wire import FIXED32, FIXED64, LENGTH, VARINT, cut, read_varint, signed

__all__ = ("document",)

_DEFAULTS: Final[dict[str, object]] = {
    "bool": False, "int": 0, "uint": 0, "float": 0.0, "double": 0.0, "text": "", "bytes": ""
}  # fmt: skip
_WIRE_TYPES: Final = {"float": FIXED32, "double": FIXED64}
_WIDTHS: Final = {FIXED32: 4, FIXED64: 8}


def document(form: str, data: bytes, at: int = 0, end: int | None = None) -> dict[str, Any]:
    """The message of this `form` that stands in `data` from `at` to `end`; raises ValueError."""
    fields = FORMS[form]
    found: dict[str, Any] = {
        field.name: _default(field) for field in fields.values() if _is_always_shown(field)
    }
    for tag, _, start, stop in cut(data, at, end):
        field = fields.get(tag >> 3)
        if field is None:
            continue
        if field.shape == "map" and tag & 7 == LENGTH:
            name, value = _entry(field, data, start, stop)
            found[field.name][name] = value
        elif field.shape == "many":
            found[field.name] += _values(field.kind, tag & 7, data, start, stop)
        elif tag & 7 == _wire_type(field.kind):
            found[field.name] = _value(field.kind, data, start, stop)
    return found


def _is_always_shown(field: Field) -> bool:
    return field.shape in {"many", "map"} or (field.shape == "one" and field.kind not in FORMS)


def _default(field: Field) -> object:
    if field.shape == "many":
        return []
    if field.shape == "map":
        return {}
    words = WORDS.get(field.kind)
    return _DEFAULTS[field.kind] if words is None else words[0]


def _wire_type(kind: str) -> int:
    if kind in FORMS or kind in {"text", "bytes"}:
        return LENGTH
    return _WIRE_TYPES.get(kind, VARINT)


def _value(kind: str, data: bytes, at: int, end: int) -> object:
    """What stands from `at` to `end`, its wire type being the one of its `kind`."""
    if kind in FORMS:
        return document(kind, data, at, end)
    if kind in {"text", "bytes"}:
        return data[at:end].decode()
    if kind == "double":
        (value,) = struct.unpack_from("<d", data, at)
        return float(value)
    if kind == "float":
        return _shortest(*struct.unpack_from("<f", data, at))
    return _number(kind, read_varint(data, at, end)[0])


def _number(kind: str, number: int) -> object:
    if kind == "bool":
        return bool(number)
    words = WORDS.get(kind)
    if words is None:
        return signed(number) if kind == "int" else number
    return words[number] if number < len(words) else number


def _values(kind: str, wire_type: int, data: bytes, at: int, end: int) -> list[object]:
    """What one occurrence of a field that may come several times adds: numbers may be packed."""
    wanted = _wire_type(kind)
    if wire_type == wanted:
        return [_value(kind, data, at, end)]
    if wire_type != LENGTH:
        return []
    values = []
    while at < end:
        stop = at + _WIDTHS[wanted] if wanted in _WIDTHS else read_varint(data, at, end)[1]
        values.append(_value(kind, data, at, stop))
        at = stop
    return values


def _entry(field: Field, data: bytes, at: int, end: int) -> tuple[str, object]:
    """The key and the value of a map's entry."""
    name, value = "", _value(field.kind, b"", 0, 0) if field.kind in FORMS else _DEFAULTS[field.kind]
    for tag, _, start, stop in cut(data, at, end):
        if tag >> 3 == 1:
            is_text = tag & 7 == LENGTH
            name = data[start:stop].decode() if is_text else str(read_varint(data, start, stop)[0])
        elif tag >> 3 == 2 and tag & 7 == _wire_type(field.kind):
            value = _value(field.kind, data, start, stop)
    return name, value


def _shortest(value: float) -> float:
    """The number with the fewest digits that is the same one in 32 bits."""
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value
