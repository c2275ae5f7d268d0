"""Requests that differ from one known already in nothing but the numbers of their tensor and their id.

Theory of operation
-------------------
Clients of one path mostly send one form of request: the text before and behind the numbers is the same to
the byte each time, and reading it again teaches nothing. So the first request of a form is read as a whole,
and what was understood of it is kept with the text around its numbers. A later request with the same text
before and behind an array, and with an array of the same shape between them, says the same but for its rows.

That is proved, not guessed. The text before the array ends with the only key ``data`` of a document without
escapes, so what follows is the tensor's value; a decoder says that it is one whole JSON value, and its
skeleton (see `json_bytes`) that it is an array of numbers in the known shape. An id at the very beginning may
differ, if it is spelt with characters that mean themselves.

Few forms are kept, for one head each time (see `intake`). Where requests keep surprising, as they do with
several tensors, strings or parameters of their own, they are not looked for any more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Raw

from proxy.batching.codecs.base import Prepared
from proxy.batching.codecs.json_bytes import NOT_JSON, has_empty, skeleton

if TYPE_CHECKING:
    from collections.abc import Hashable

    from proxy.batching.codecs.base import Prepare
    from proxy.exchange import Headers

__all__ = ("Forms",)

_MOST: Final = 16
_LONGEST: Final = 8192  # bytes kept of a form; reading its numbers costs far more than its text beyond that
_MOST_SURPRISES: Final = 32

_DATA: Final = b'"data":'
_ANY_DATA: Final = re.compile(rb'"data"[ \t\r\n]*:')
_IDENT: Final = re.compile(rb'\{"id": ?("[-.:\w]*"),')
_value = msgspec.json.Decoder(Raw).decode


class _Form(NamedTuple):
    """What follows the array's last element, the array's skeleton, and what the first request said but for
    its rows."""

    end: bytes
    outline: bytes
    key: Hashable
    items: int
    frame: object


class Forms:
    """The forms of request that one head was seen with; `prepare` reads a request of an unknown form."""

    __slots__ = ("_forms", "_prepare", "_surprises")

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._forms: dict[bytes, _Form] = {}
        self._surprises = 0

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """What the request says; see `Codec.prepare`."""
        if self._surprises > _MOST_SURPRISES:
            return self._prepare(body, headers)
        found = _IDENT.match(body)
        begin, ident = (found.end(), found[1]) if found is not None else (0, b"")
        start = body.find(b"[", body.find(_DATA, begin, _LONGEST) + len(_DATA), _LONGEST)
        form = self._forms.get(body[begin:start]) if start > 0 else None
        if form is not None and body.endswith(form.end):
            array = body[start : len(body) - len(form.end) + 1]
            if _has_shape(array, form.outline):
                self._surprises = 0
                return Prepared(form.key, form.items, (array[1:-1],), form.frame, ident)
        self._surprises += 1
        said = self._prepare(body, headers)
        if said.ident == ident and start > 0:
            self._learn(body, begin, start, said)
        return said

    def _learn(self, body: bytes, begin: int, start: int, said: Prepared) -> None:
        """Keep the form of `body`, in which an array may begin at `start`, if it has just one place that
        varies."""
        if len(said.payload) > 1 or b"\\" in body or len(_ANY_DATA.findall(body)) != 1:
            return
        end = start + len(said.payload[0]) + 1
        array, before, behind = body[start : end + 1], body[begin:start], body[end:]
        outline = skeleton(array)
        is_plain = before.rstrip().endswith(_DATA) and array[1:-1] == said.payload[0]
        if not is_plain or outline.strip(b"[],") or len(before) + len(behind) + len(outline) > _LONGEST:
            return
        if len(self._forms) >= _MOST:
            self._forms.clear()
        self._forms[before] = _Form(behind, outline, said.key, said.items, said.frame)


def _has_shape(array: bytes, outline: bytes) -> bool:
    """Whether `array` is a JSON array of numbers whose skeleton is `outline`."""
    if skeleton(array) != outline or has_empty(array, outline):
        return False
    try:
        _value(array)
    except NOT_JSON:
        return False
    return True
