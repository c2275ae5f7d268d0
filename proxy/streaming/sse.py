"""Where events end in a stream that is passed on in pieces (pure).

Theory of operation
-------------------
A server-sent event ends with an empty line, a line with CRLF, LF or CR (WHATWG HTML §9.2.5); in
newline-delimited JSON each line is an event. Bytes are passed on as they come, so an event may lie in
several pieces and a piece may hold several events, or a part of a UTF-8 sequence. Nothing here changes
that. A scanner only counts the events that are complete, and knows whether the stream is *between* two
events: the one place where a comment or an error event of our own may stand without tearing another one
apart.

Nearly every piece of a real model's stream is one whole event of one line with LF line ends. That case is two
searches for a byte (for an int: looking for a bytes object of length one takes six times as long). In all
others the last three bytes of the previous piece are looked at again, because the two line ends of an empty
line may be in two pieces. CR LF is one line end also when it is split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = (
    "COMMENT",
    "LineScanner",
    "Scanner",
    "SseScanner",
    "error_event",
    "media_type",
    "scanner_for",
)

COMMENT: Final = b": waiting\n\n"
"""Says that the connection lives; no client shows it to anybody."""

_CR: Final = 13
_LF: Final = 10
_EVENT_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\n))")
_LINES: Final = frozenset(
    (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/stream+json")
)


class SseScanner:
    """Counts the events of ``text/event-stream``; `is_between` before the first and after each one's end."""

    __slots__ = ("_ends_with_cr", "_tail", "is_between")

    def __init__(self) -> None:
        self._tail = b""
        self._ends_with_cr = False
        self.is_between = True

    def feed(self, data: bytes) -> int:
        """The number of events that end in `data` (not empty)."""
        if self.is_between and not self._ends_with_cr and _CR not in data and data.endswith(b"\n\n"):
            return 1 if data.find(_LF) == len(data) - 2 else data.count(b"\n\n")
        if self._ends_with_cr and data.startswith(b"\n"):
            data = data[1:]
        text = self._tail + data if self._tail else data
        if b"\r" in text:
            ends = [match.end() for match in _EVENT_END.finditer(text)]
            count, end = len(ends), ends[-1] if ends else 0
        else:
            count = text.count(b"\n\n")
            end = text.rfind(b"\n\n") + 2 if count else 0
        self._tail = text[max(end, len(text) - 3) :]
        self.is_between = not self._tail
        self._ends_with_cr = self.is_between and text.endswith(b"\r")
        return count


class LineScanner:
    """The same for newline-delimited JSON: lines."""

    __slots__ = ("is_between",)

    def __init__(self) -> None:
        self.is_between = True

    def feed(self, data: bytes) -> int:
        """The number of lines that end in `data` (not empty)."""
        self.is_between = data.endswith(b"\n")
        return data.count(b"\n")


Scanner = SseScanner | LineScanner
"""What counts the events of one stream."""


def media_type(headers: Headers) -> bytes:
    """The media type of a message, in lower case and without parameters; empty when it has none."""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""


def scanner_for(media: bytes) -> Scanner | None:
    """What counts the events of a body of the type `media`; None when it has none."""
    if media == b"text/event-stream":
        return SseScanner()
    return LineScanner() if media in _LINES else None


def error_event(reason: str, message: str) -> bytes:
    """An event that tells OpenAI clients, and whoever reads the data, that the stream broke off."""
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": reason}}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(body)
