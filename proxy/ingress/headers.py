"""The head of an answer as one buffer: status line, the fields as they came, our own framing."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.exchange import Call, Reply

__all__ = ("body_allowed", "reply_head")

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}


def body_allowed(method: bytes, status: int) -> bool:
    """False for answers that end with their head (RFC 9110 §6.4.1), whatever their fields say."""
    return not (method == b"HEAD" or status in {204, 304} or status < 200)


def reply_head(call: Call | None, reply: Reply, length: int | None, *, keep_alive: bool) -> bytes:
    """Status line and fields of `reply`, framed for `length` body bytes (None: unknown, so chunked).

    A client of HTTP/1.0 gets no chunks: its connection closes to end the body. `call` is None where the
    request could not be understood.
    """
    is_http10 = call is not None and call.http_version < 11
    status = reply.status
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reply.reason or _PHRASES.get(status, b""))]
    lines += [b"%b: %b\r\n" % pair for pair in reply.headers]
    if call is not None and not body_allowed(call.method, status):
        length = reply.declared_length
        if length is not None:
            lines.append(b"Content-Length: %d\r\n" % length)
    elif length is not None:
        lines.append(b"Content-Length: %d\r\n" % length)
    elif not is_http10:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if not keep_alive:
        lines.append(b"Connection: close\r\n\r\n")
    elif is_http10:
        lines.append(b"Connection: keep-alive\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines)
