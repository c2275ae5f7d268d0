"""What a request's head means: the rules that llhttp does not enforce (pure).

Theory of operation
-------------------
llhttp (strict) has already refused what is not HTTP: bad tokens, folded lines, two lengths, a length beside
a transfer coding. What is left to judge is what a proxy must not pass on although it is well-formed: a
message that names two hosts or none, a transfer coding that we would have to understand, a version that we
do not speak, more than the operator allows.

The fields are sorted here, once: hop-by-hop fields, everything that `Connection` names and the framing
fields stay behind, the rest keeps its order, case and duplicates. `Connection` cannot name away what the
backend's security rests on (RFC 9110 §7.6.1 leaves that to the recipient): such a name is ignored.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from proxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge

if TYPE_CHECKING:
    from proxy.exchange import Headers
    from proxy.ingress.policy import LimitPolicy

__all__ = ("Head", "read_head")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"expect",
    }
)
_NOTED = _HOP_BY_HOP | {b"host"}
_NEVER_NAMED_AWAY = frozenset(
    {b"host", b"authorization", b"cookie", b"content-type", b"close", b"keep-alive", b""}
)
_FIELD_OVERHEAD = 4  # ": " and CRLF


class Head:
    """A judged request head.

    `headers` are the end-to-end fields. `length` is the declared body length in bytes, None when there is
    none; `is_chunked` says that the body comes in chunks. `expects_continue` says that the client waits for
    an interim 100.
    """

    __slots__ = (
        "expects_continue",
        "headers",
        "http_version",
        "is_chunked",
        "keep_alive",
        "length",
        "method",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http_version = 11
        self.keep_alive = True
        self.length: int | None = None
        self.is_chunked = False
        self.expects_continue = False


def read_head(
    method: bytes, target: bytes, version: str, fields: list[tuple[bytes, bytes]], limits: LimitPolicy
) -> Head:
    """Judge a head; raises `DownstreamError` for what must not go on.

    `version` is llhttp's ("1.1"). `keep_alive` is left to the caller, who has llhttp's word for it.
    """
    _check_size(fields, limits)
    if version not in {"1.1", "1.0"}:
        raise BadRequest(f"HTTP version {version} is not spoken here")
    noted: dict[bytes, list[bytes]] = {}
    headers = []
    for pair in fields:
        lower = pair[0].lower()
        if lower in _NOTED:
            noted.setdefault(lower, []).append(pair[1])
            if lower != b"host":
                continue
        headers.append(pair)
    head = Head(method, target, tuple(headers))
    head.http_version = 11 if version == "1.1" else 10
    _check_host(noted.get(b"host", ()), version)
    _read_framing(head, noted, limits)
    if b"connection" in noted:
        head.headers = _without_named(head.headers, b",".join(noted[b"connection"]))
    if b"expect" in noted:
        head.expects_continue = noted[b"expect"][0].lower() == b"100-continue" and version == "1.1"
    return head


def _check_size(fields: list[tuple[bytes, bytes]], limits: LimitPolicy) -> None:
    if len(fields) > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} header fields")
    if sum(map(len, chain.from_iterable(fields))) + _FIELD_OVERHEAD * len(fields) > limits.header_bytes:
        raise HeadersTooLarge(f"request head over {limits.header_bytes} bytes")


def _check_host(hosts: list[bytes] | tuple[()], version: str) -> None:
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequest("exactly one Host field is required")


def _read_framing(head: Head, noted: dict[bytes, list[bytes]], limits: LimitPolicy) -> None:
    codings = noted.get(b"transfer-encoding")
    if codings is not None:
        if head.http_version < 11 or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadRequest("Transfer-Encoding must be chunked alone, on HTTP/1.1")
        head.is_chunked = True
        return
    lengths = noted.get(b"content-length")
    if lengths is not None:
        head.length = int(lengths[0])  # llhttp has refused anything but digits, and a second field
        if head.length > limits.body:
            raise BodyTooLarge(f"request body over {limits.body} bytes")


def _without_named(headers: Headers, connection: bytes) -> Headers:
    """`headers` less the fields that the Connection field names."""
    named = {token.strip().lower() for token in connection.split(b",")} - _NEVER_NAMED_AWAY
    if not named:
        return headers
    return tuple(pair for pair in headers if pair[0].lower() not in named)
