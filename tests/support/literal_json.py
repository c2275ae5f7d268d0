"""JSON read with nothing lost: numbers as they were written, objects as pairs, repeated keys included."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ("Literal", "field", "loads")


@dataclass(frozen=True)
class Literal:
    """A number or a bare token, as text."""

    text: str


def loads(text: bytes) -> object:
    """The document: lists as lists, objects as tuples of (key, value), numbers as `Literal`."""
    return json.loads(
        text, parse_float=Literal, parse_int=Literal, parse_constant=Literal, object_pairs_hook=tuple
    )


def field(document: object, name: str) -> object:
    """The value of the one field `name` of an object."""
    assert isinstance(document, tuple)
    values = [value for key, value in document if key == name]
    assert len(values) == 1, f"{name} occurs {len(values)} times in {document}"
    return values[0]
