"""HTTP/1.1 on the wire towards a backend: how a request is written and an answer's head is judged.

Framing is never copied from one side to the other. A `Call` carries end-to-end fields only; its
``Content-Length`` or ``Transfer-Encoding`` is regenerated here from the body itself, so that the backend and
this proxy cannot disagree about where the request ends. In the other direction the fields of one hop
(RFC 9110 §7.6.1) and the framing fields are taken out of the answer and kept as facts in a `Head`:

* ``length``: the declared body bytes, or None when chunks or the end of the connection delimit it;
* ``declared_length``: what an answer without a body (to HEAD, or a 304) says its body would have been;
* ``ends_with_connection``: nothing but the end of the connection delimits the body;
* ``keep_alive``: whether the connection may carry another exchange after this one;
* ``keep_alive_s``: how long the backend says it keeps an idle connection (``Keep-Alive: timeout=``).

A ``Transfer-Encoding`` other than plain ``chunked`` is refused: it would have to be decoded here, and
passing its bytes on without the label would be a wrong answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.errors import BadReply

if TYPE_CHECKING:
    from proxy.exchange import Call, Headers, Stream

__all__ = (
    "Head",
    "answer_head",
    "encode_chunk",
    "last_chunk",
    "request_head",
    "trailer_section",
    "was_offered",
)

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_IN_TRAILERS = _HOP_BY_HOP | {
    b"host",
    b"authorization",
    b"set-cookie",
    b"content-type",
    b"content-encoding",
}
_BODILESS = frozenset((204, 304))
_COLON = b": "
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SAYS_EMPTY = frozenset((b"POST", b"PUT", b"PATCH"))  # RFC 9110 §8.6: a bodiless one should say so


# ------------------------------------------------------------------ request
def request_head(call: Call, authority: bytes) -> bytes:
    """The request line and header section of `call`, framing included, the empty line at its end.

    `authority` becomes the ``Host`` of a call that has none (an HTTP/1.0 client need not send it).
    """
    headers = call.headers
    fields = b"\r\n".join(map(_COLON.join, headers))
    if not headers or (headers[0][0].lower() != b"host" and call.header(b"host") is None):
        fields = b"Host: " + authority + (b"\r\n" + fields if fields else b"")
    return b"%b %b HTTP/1.1\r\n%b%b\r\n\r\n" % (call.method, call.target, fields, _framing(call))


def _framing(call: Call) -> bytes:
    body = call.body
    if call.upgrade:
        return b"\r\nConnection: Upgrade\r\nUpgrade: " + call.upgrade
    if not isinstance(body, bytes):
        return _stream_framing(body)
    if body or call.method in _SAYS_EMPTY:
        return b"\r\nContent-Length: %d" % len(body)
    return b""


def _stream_framing(body: Stream) -> bytes:
    if body.length is None:
        return b"\r\nTransfer-Encoding: chunked"
    return b"\r\nContent-Length: %d" % body.length


def encode_chunk(data: bytes) -> bytes:
    """`data` (not empty) as one chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """The end of a chunked body, with its trailer section."""
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in trailers])


# ------------------------------------------------------------------ answer
class Head:
    """The judged head of one answer; immutable, so that equal heads may share one."""

    __slots__ = (
        "declared_length",
        "ends_with_connection",
        "has_body",
        "headers",
        "keep_alive",
        "keep_alive_s",
        "length",
        "reason",
        "status",
    )

    def __init__(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.has_body = True
        self.ends_with_connection = False
        self.length: int | None = None
        self.declared_length: int | None = None
        self.keep_alive = False
        self.keep_alive_s: float | None = None

    def varied(self, headers: Headers, length: int | None) -> Head:
        """The same with other end-to-end fields and another length."""
        head = Head(self.status, self.reason, headers)
        head.has_body = self.has_body
        head.ends_with_connection = self.ends_with_connection
        head.length = length
        head.declared_length = self.declared_length
        head.keep_alive = self.keep_alive
        head.keep_alive_s = self.keep_alive_s
        return head


def answer_head(
    status: int, reason: bytes, fields: list[tuple[bytes, bytes]], *, is_persistent: bool, to_head: bool
) -> Head:
    """Judge an answer's `fields`.

    `is_persistent` is the parser's verdict on the connection, which for an answer `to_head` knows nothing
    of the missing body and counts only for its ``Connection`` field. Raises `BadReply` for a transfer coding
    that is not plain ``chunked``.
    """
    if status < 100:
        raise BadReply(f"status {status} is not HTTP")
    if status == 101 and not any(name.lower() == b"upgrade" for name, _ in fields):
        raise BadReply("the backend switched to a protocol that it does not name")
    if _CONTROLS.search(reason):  # llhttp lets them pass, and not every client would
        raise BadReply("the reason phrase has control characters")
    kept: list[tuple[bytes, bytes]] = []
    hop: dict[bytes, bytes] = {}
    for pair in fields:
        name = pair[0].lower()
        if name in _HOP_BY_HOP:
            hop[name] = hop[name] + b"," + pair[1] if name in hop else pair[1]
        else:
            kept.append(pair)
    named = _tokens(hop.get(b"connection", b""))
    if named:
        kept = [pair for pair in kept if pair[0].lower() not in named]
    if status == 101 and b"upgrade" in hop:
        kept.append((b"Upgrade", hop[b"upgrade"]))
    head = Head(status, reason, tuple(kept))
    length = int(hop[b"content-length"]) if b"content-length" in hop else None
    _judge_coding(hop)
    if to_head or status in _BODILESS:
        head.has_body = False
        head.declared_length = length if status != 204 else None
        head.keep_alive = is_persistent or (to_head and b"close" not in named)
    else:
        head.length = length
        head.ends_with_connection = length is None and b"transfer-encoding" not in hop
        head.keep_alive = is_persistent
    head.keep_alive_s = _timeout(hop.get(b"keep-alive", b""))
    return head


def trailer_section(fields: list[tuple[bytes, bytes]]) -> Headers:
    """The trailer `fields` that may be passed on: none that frames, routes or authorises (RFC 9110
    §6.5.1)."""
    return tuple(pair for pair in fields if pair[0].lower() not in _NOT_IN_TRAILERS)


def was_offered(head: Head, offered: bytes) -> bool:
    """Whether the protocol that a 101 switches to is among the `offered` ones (RFC 9110 §7.8)."""
    chosen = _tokens(b",".join([value for name, value in head.headers if name == b"Upgrade"]))
    return bool(chosen) and chosen <= _tokens(offered)


def _judge_coding(hop: dict[bytes, bytes]) -> None:
    coding = hop.get(b"transfer-encoding", b"chunked")
    if coding.strip().lower() != b"chunked":
        raise BadReply(f"transfer coding {coding.decode('latin-1')!r} is not supported")


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b",") if token.strip())


def _timeout(value: bytes) -> float | None:
    for part in value.split(b","):
        name, _, number = part.partition(b"=")
        if name.strip().lower() == b"timeout" and number.strip().isdigit():
            return float(number)
    return None
