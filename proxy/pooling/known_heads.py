"""Heads of answers that were judged before, and those that differ from them in values only (pure).

Theory of operation
-------------------
One backend's answers have the same head over and over, but for a date, a length, an id. A head that is known
to the byte is found in a table. One that is not is compared, line by line, with the last judged one that has
its status and its number of lines. They are alike if each line that differs is one of these, under the name
that it had:

* a field that goes on to the client as it came, with a value of visible characters and white space between
  them: whatever it says, it says nothing about the connection or the end of the answer;
* ``Content-Length`` with at most eighteen digits.

Such a head means what the judged one means, with these values put in. Every other line (``Connection`` and
what it names, ``Transfer-Encoding``, ``Keep-Alive``) must be the same to the byte, and every doubt is left to
the parser, which finds the same or says what is wrong. A head is not judged by one that was itself only
found alike, but by the parser's own, so that nothing adds up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.pooling.wire import Head

__all__ = ("HeadTable",)

_MOST_HEADS: Final = 256
_MOST_BYTES: Final = 2048
_MOST_MODELS: Final = 16
_STATUS_END: Final = 12  # of "HTTP/1.1 200"
_MOST_DIGITS: Final = 18
_LENGTH: Final = -1
_CLOSED: Final = -2
_VALUE: Final = re.compile(rb"[!-~\x80-\xff]++(?:[ \t]++[!-~\x80-\xff]++)*+")


class _Model:
    """A judged head and what its lines leave open: `places` has for each line the index of its field in
    ``head.headers``, `_LENGTH` or `_CLOSED`."""

    __slots__ = ("head", "lines", "places")

    def __init__(self, block: bytes, head: Head) -> None:
        self.head = head
        self.lines = block[:-4].split(b"\r\n")
        self.places = [_CLOSED]
        at = 0
        for line in self.lines[1:]:
            name, _, value = line.partition(b":")
            if at < len(head.headers) and head.headers[at] == (name, value.lstrip(b" \t")):
                self.places.append(at)
                at += 1
            else:
                self.places.append(_LENGTH if name.lower() == b"content-length" else _CLOSED)

    def read(self, block: bytes) -> Head | None:
        """`block`, of as many lines, as a head like this one; None when it is not."""
        fields = list(self.head.headers)
        length = self.head.length
        for line, known, place in zip(block[:-4].split(b"\r\n"), self.lines, self.places, strict=True):
            if line == known:
                continue
            name, _, value = line.partition(b":")
            value = value.lstrip(b" \t")
            if place == _CLOSED or not known.startswith(name + b":"):
                return None
            if place != _LENGTH:
                if _VALUE.fullmatch(value) is None:
                    return None
                fields[place] = (name, value)
            elif value.isdigit() and len(value) <= _MOST_DIGITS:
                length = int(value)
            else:
                return None
        return self.head.varied(tuple(fields), length)


class HeadTable:
    """Judged heads of one endpoint, shared by its connections, and bounded. Each declares the length of its
    body, and keeps its connection alive."""

    __slots__ = ("_heads", "_models")

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._models: dict[tuple[bytes, int], _Model] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, block: bytes) -> Head | None:
        """The meaning of `block`, its empty line included; None when it has to be judged."""
        head = self._heads.get(block)
        if head is None and len(block) <= _MOST_BYTES:
            model = self._models.get(_kind(block))
            head = None if model is None else model.read(block)
            if head is not None:
                self._keep(block, head)
        return head

    def remember(self, block: bytes, head: Head) -> None:
        """`block` was judged to mean `head`."""
        if len(block) > _MOST_BYTES:
            return
        self._keep(block, head)
        if len(self._models) >= _MOST_MODELS:
            self._models.clear()
        self._models[_kind(block)] = _Model(block, head)

    def _keep(self, block: bytes, head: Head) -> None:
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[block] = head


def _kind(block: bytes) -> tuple[bytes, int]:
    return block[:_STATUS_END], block.count(b"\r\n")
