"""A request in an operator's words, and the same as a client would send it.

Theory of operation
-------------------
A dry run is worth something only when it sees what a real request would show, so a described request is
written out as HTTP/1.1 and read by the listener's own reader: what that refuses, the explanation refuses, and
with the same words. All that is checked here is what would make one request into two, or none: line breaks
and framing fields.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Described", "as_sent")

_FIELD: Final = re.compile(r"([^\s:]+):[ \t]*([^\r\n\0]*)")
_FRAMING: Final = frozenset(("connection", "content-length", "expect", "transfer-encoding", "upgrade"))
_WORD: Final = re.compile(r"[^\s]+")


class Described(NamedTuple):
    """A request: `url` is ``http://host/path`` or only ``/path``; each of `fields` is ``name: value``."""

    method: str
    url: str
    fields: tuple[str, ...] = ()
    body: bytes = b""


def as_sent(described: Described) -> bytes:
    """The bytes of `described`, with the `Host` of its URL and, where it has a body, JSON's media type unless
    it names others.

    Raises ValueError for what is no request.
    """
    host, target = _split(described.url)
    if not _WORD.fullmatch(described.method):
        raise ValueError("a method is one word, such as POST")
    fields = list(_read(described.fields))
    names = {name.lower() for name, _ in fields}
    if framing := names & _FRAMING:
        raise ValueError(f"{min(framing)} is up to the connection, which an explanation has none of")
    if "host" not in names:
        fields.insert(0, ("Host", host))
    if described.body:
        fields.append(("Content-Length", str(len(described.body))))
        if "content-type" not in names:
            fields.append(("Content-Type", "application/json"))
    lines = [f"{described.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("utf-8") + described.body


def _split(url: str) -> tuple[str, str]:
    """Host and target."""
    if not _WORD.fullmatch(url):
        raise ValueError("a URL has no spaces: write them as %20")
    if url.startswith("/"):
        return "localhost", url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("a URL is http://host/path, or only /path")
    target = url.partition("//")[2][len(parts.netloc) :]
    return parts.netloc, target if target.startswith("/") else f"/{target}"


def _read(fields: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in fields:
        match = _FIELD.fullmatch(text)
        if match is None:
            raise ValueError(f"a header field is 'name: value', not {text!r}")
        yield match[1], match[2]
