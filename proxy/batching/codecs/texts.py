"""Texts and token numbers as inputs: what ``input`` means to embedding servers.

Theory of operation
-------------------
Four spellings, two of which are easily confused:

=================  =====================================
``"a text"``       one text
``["one", "two"]`` as many texts as elements
``[101, 2023]``    **one** text, already in token numbers
``[[101], [7]]``   as many as elements, in token numbers
=================  =====================================

Texts and token numbers are different kinds and never share a call.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from proxy.batching.codecs.json_bytes import NOT_JSON
from proxy.errors import MergeRefused

__all__ = ("Inputs", "inputs_of")

_value = msgspec.json.Decoder(str | list[str | int | list[int]]).decode


class Inputs(NamedTuple):
    """Inputs ready to be joined by commas: ``text`` or ``token`` kind, how many, their bytes.

    `weight` is the number of tokens, or of characters where that is not known.
    """

    kind: str
    items: int
    payload: bytes
    weight: int


def inputs_of(value: bytes) -> Inputs:
    """What the JSON `value` asks about; raises `MergeRefused`."""
    try:
        decoded = _value(value)
    except NOT_JSON:
        raise MergeRefused("form") from None
    if isinstance(decoded, str):
        return Inputs("text", 1, value, len(decoded))
    kinds = set(map(type, decoded))
    if kinds == {str}:
        return Inputs("text", len(decoded), value[1:-1], sum(map(_length, decoded)))
    if kinds == {int}:
        return Inputs("token", 1, value, sum(map(_length, decoded)))
    if kinds == {list}:
        return Inputs("token", len(decoded), value[1:-1], sum(map(_length, decoded)))
    raise MergeRefused("form" if decoded else "empty")


def _length(one: str | int | list[int]) -> int:
    return 1 if isinstance(one, int) else len(one)
