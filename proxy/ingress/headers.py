"""The head of an answer as one buffer: status line, the fields as they came, our own framing (pure).

Theory of operation
-------------------
An answer's end-to-end fields go out as they came in. What this hop adds is little: `Via`, the request's id
when the backend did not repeat it, `Date` when there is none, and the framing of this connection. Answers
of one backend mostly share their head, and the pool hands equal heads out as the same tuple, so the bytes
made of such a tuple are kept and found by identity.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.exchange import Call, Headers, Reply

__all__ = ("HeadWriter", "body_allowed", "interim_head", "timing_fields")

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",  # RFC 9110's words, whatever Python's version
    414: b"URI Too Long",
    416: b"Range Not Satisfiable",
    422: b"Unprocessable Content",
    499: b"Client Closed Request",
}
_MOST_REMEMBERED: Final = 128
_LONGEST_REMEMBERED: Final = 2048


def body_allowed(method: bytes, status: int) -> bool:
    """False for answers that end with their head (RFC 9110 §6.4.1), whatever their fields say."""
    return not (method == b"HEAD" or status in {204, 304} or status < 200)


class HeadWriter:
    """Writes heads of answers; `via` is this proxy's name (empty: none), `date` an IMF-fixdate kept
    current."""

    __slots__ = ("_remembered", "_via", "date")

    def __init__(self, via: bytes) -> None:
        self._via = b"Via: 1.1 %b\r\n" % via if via else b""
        self._remembered: dict[int, _Start] = {}
        self.date = b""

    def head(
        self,
        call: Call | None,
        reply: Reply,
        length: int | None,
        *,
        keep_alive: bool,
        request_id: bytes = b"",
        more: bytes = b"",
    ) -> bytes:
        """Status line and fields of `reply`, framed for `length` body bytes (None: unknown, so chunked).

        A client of HTTP/1.0 gets no chunks: its connection closes to end the body. `call` is None where the
        request could not be understood. `more` are further field lines, each with its CRLF.
        """
        known = self._remembered.get(id(reply.headers))
        if (
            known is None
            or known.headers is not reply.headers
            or known.status != reply.status
            or known.reason != reply.reason  # answers without fields share one tuple, whatever they say
        ):
            known = self._prepare(reply)
        start = known.start
        if not known.has_date:
            start += b"Date: %b\r\n" % self.date
        if request_id and not known.has_id:
            start += b"X-Request-Id: %b\r\n" % request_id
        for pair in reply.added:
            start += b"%b: %b\r\n" % pair
        if more:
            start += more
        if (
            keep_alive
            and length is not None
            and call is not None
            and call.http_version > 10
            and known.has_body
        ) and call.method != b"HEAD":  # the usual answer
            return b"%bContent-Length: %d\r\n\r\n" % (start, length)
        return start + _framing(call, reply, length, keep_alive=keep_alive)

    def _prepare(self, reply: Reply) -> _Start:
        start = _Start(reply, self._via)
        if len(start.start) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[id(reply.headers)] = start
        return start


class _Start:
    """What of a head depends on the answer alone."""

    __slots__ = ("has_body", "has_date", "has_id", "headers", "reason", "start", "status")

    def __init__(self, reply: Reply, via: bytes) -> None:
        self.headers = reply.headers  # keeps the tuple alive, so that its identity stays its own
        self.status = reply.status
        self.reason = reply.reason
        lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, reply.reason or _PHRASES.get(reply.status, b""))]
        lines += [b"%b: %b\r\n" % pair for pair in reply.headers]
        self.start = b"".join(lines) + via
        names = {name.lower() for name, _ in reply.headers}
        self.has_date = b"date" in names
        self.has_id = b"x-request-id" in names
        self.has_body = body_allowed(b"", reply.status)


def _framing(call: Call | None, reply: Reply, length: int | None, *, keep_alive: bool) -> bytes:
    is_http10 = call is not None and call.http_version < 11
    if reply.status == 101:
        return b"Connection: Upgrade\r\n\r\n"
    if call is not None and not body_allowed(call.method, reply.status):
        length = reply.declared_length
        framing = b"" if length is None else b"Content-Length: %d\r\n" % length
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    else:
        framing = b"" if is_http10 else b"Transfer-Encoding: chunked\r\n"
    if not keep_alive:
        return framing + b"Connection: close\r\n\r\n"
    return framing + (b"Connection: keep-alive\r\n\r\n" if is_http10 else b"\r\n")


def interim_head(status: int, headers: Headers) -> bytes:
    """An interim (1xx) answer."""
    fields = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _PHRASES.get(status, b""), fields)


def timing_fields(call: Call) -> bytes:
    """`Server-Timing` and `Pillion-Batch` lines: where `call` spent its time (milliseconds), and in what
    company."""
    spans = ((b"queue", call.queue_s), (b"pool", call.pool_s), (b"upstream", call.upstream_s))
    timing = b", ".join([b"%b;dur=%.3f" % (name, span_s * 1e3) for name, span_s in spans])
    size, _, trigger = call.batch.partition(b"; ")
    batch = b"Pillion-Batch: %b; wait=%.1fms; %b\r\n" % (size, call.queue_s * 1e3, trigger) if size else b""
    return b"Server-Timing: %b\r\n%b" % (timing, batch)
