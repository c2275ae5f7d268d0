"""What a well-formed head means, and whether it may go on (pure).

Theory of operation
-------------------
`proxy.ingress.grammar` has refused what is not HTTP. Here a head is judged as a proxy must: which host it is
for, where its body ends, which fields belong to this hop and end here, which the next hop needs from this
one. Whatever could be read in two ways is refused: two lengths, a length beside a transfer coding, a coding
other than ``chunked`` alone, two hosts, a field whose name a CGI-style server would take for a framing
field.

The fields are sorted once, in order: hop-by-hop fields, everything that `Connection` names and the framing
fields stay behind, the rest keeps its order, case and duplicates. `Connection` cannot name away what the
backend's security rests on (RFC 9110 §7.6.1 leaves that to the recipient): such a name is ignored.

A target goes on byte for byte. Only the absolute form is rewritten, to the origin form, with its authority as
the host (RFC 9112 §3.2.2); nothing in a request chooses the server that it is sent to.

What differs with each request, its id and its span, is not part of a `Head`, so that a connection which
repeats its head may use the same one again.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    CodingNotSupported,
    ExpectationFailed,
    HeadersTooLarge,
    MethodNotAllowed,
    TargetTooLong,
)
from proxy.ingress.forwarding import FORWARDED, check_loop, forwarded_fields, read_request_id, read_trace
from proxy.ingress.grammar import Fields, read_fields, read_request_line, twin_of
from proxy.ingress.rules import IDENTITY, ORDINARY, may_trail

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from proxy.exchange import Headers
    from proxy.http2.headers import RequestHead
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.rules import HeadRules

__all__ = ("Head", "read_head", "read_http2_head", "read_length")

_ENDS_HERE: Final = FORWARDED | {
    b"traceparent",
    b"connection",
    b"content-length",
    b"expect",
    b"http2-settings",
    b"keep-alive",
    b"pillion-debug",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_NOTED: Final = _ENDS_HERE | {
    b"authorization",
    b"host",
    b"max-forwards",
    b"tracestate",
    b"via",
    b"x-request-id",
    b"x-request-timeout",
}
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_USUAL_OPTIONS: Final = {
    value: frozenset((value.lower(),)) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close")
}
_NO_WISH: Final = [b""]
_FRAMING_TWINS: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"proxy-connection", b"keep-alive")
)
_NEVER_NAMED_AWAY: Final = frozenset(
    b"""authorization close cookie expect forwarded host keep-alive max-forwards traceparent tracestate
    upgrade via x-request-id""".split()
)
_NEVER_NAMED_AWAY_PREFIXES: Final = (b"content-", b"x-forwarded-")
_MOST_PLACES: Final = 1024  # names come from clients
# RFC 3986 §3.2.2 less the comma, which only a list of two hosts has, and less encoded control characters.
_HOST: Final = re.compile(
    rb"(?:(\[[0-9A-Fa-f:.]+\])|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[2-9A-Fa-f][0-9A-Fa-f])*)(?::([0-9]{0,5}))?"
)
_LAST_PORT: Final = 65535
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(.*)", re.DOTALL)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class Head:
    """A judged request head.

    `client` is who sent it in the first place, where a trusted proxy says so (else empty).
    `headers` are the fields to send on, but for the request's id and span. `length` is the declared body
    length in bytes, None when there is none; `is_chunked` says that the body comes in chunks. `upgrade`
    names the protocols that the client would switch to, or is empty. `request_id` is the client's, or
    empty; `trace` is `read_trace`'s. `is_for_us` says that ``Max-Forwards`` ends the request's way here.
    """

    __slots__ = (
        "client",
        "expects_continue",
        "headers",
        "http_version",
        "identity",
        "is_chunked",
        "is_for_us",
        "keep_alive",
        "length",
        "method",
        "request_id",
        "target",
        "timeout_wish",
        "trace",
        "upgrade",
        "wants_debug",
        "wants_trailers",
    )

    def __init__(self, method: bytes, target: bytes, http_version: int = 11) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers: Headers = ()
        self.client = b""
        self.keep_alive = True
        self.length: int | None = None
        self.is_chunked = False
        self.is_for_us = False
        self.expects_continue = False
        self.upgrade = b""
        self.identity = b""
        self.request_id = b""
        self.trace: tuple[bytes, bytes] | None = None
        self.wants_trailers = False
        self.wants_debug = False
        self.timeout_wish = b""

    @property
    def has_body(self) -> bool:
        """True when body bytes follow the head."""
        return self.is_chunked or bool(self.length)


def read_head(block: bytes, hop: Hop, rules: HeadRules) -> Head:
    """Judge the head in `block` (request line and field lines, each with its CRLF).

    Raises `DownstreamError` or `LoopDetected` for what must not go on.
    """
    line, _, rest = block.partition(b"\r\n")
    head = Head(*read_request_line(line, rules.limits))
    _judge(head, read_fields(rest, rules.limits), hop, rules, block=rest)
    return head


def read_http2_head(request: RequestHead, hop: Hop, rules: HeadRules) -> Head:
    """Judge a head that came over HTTP/2, whose framing its session has seen to; raises the same.

    The body of a gRPC call has no bound as a whole: it is a sequence of messages, never held.
    """
    limits = rules.limits
    if len(request.target) > limits.target:
        raise TargetTooLong(f"request target over {limits.target} bytes")
    if len(request.headers) > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} header fields")
    head = Head(request.method, request.target, 20)
    head.length = None if request.is_grpc else request.content_length
    head.expects_continue = request.expects_continue
    _judge(head, list(request.headers), hop, rules)
    return head


def _judge(head: Head, fields: Fields, hop: Hop, rules: HeadRules, block: bytes | None = None) -> None:
    """What is judged alike in all versions; `block` are the field lines that frame an HTTP/1 message."""
    version = head.http_version
    kept, noted = _sort(fields, hop, rules)
    tokens, named = _read_connection(noted.get(b"connection"))
    target, authority = _read_target(head.method, head.target)
    host = _host_of(noted.get(b"host", []), version, authority, hop)
    rules.check_target(target)
    rules.check_server_name(hop, host)
    rules.check_client(hop)
    head.target = target
    head.keep_alive = b"close" not in tokens and (version == 11 or b"keep-alive" in tokens)
    if block is not None:
        _read_framing(head, noted, block)
    if head.length is not None and head.length > rules.limits.body:
        raise BodyTooLarge(f"request body over {rules.limits.body} bytes")
    _read_wishes(head, noted, tokens)
    if rules.keys:
        head.identity = rules.keys.identify(noted.get(b"authorization"))
        kept = _without(kept, {b"authorization"})
    if named:
        kept = _without(kept, named)
    if hop.is_trusted:
        head.client = rules.strangers.client(noted)
    _read_history(head, noted)
    if head.trace is None and b"tracestate" in noted:
        kept = _without(kept, {b"tracestate"})
    if not head.request_id and b"x-request-id" in noted:
        kept = _without(kept, {b"x-request-id"})
    if authority is not None:
        kept = [(b"Host", authority), *_without(kept, {b"host"})]
    head.headers = (*_kept_for_next(head, kept, noted), *forwarded_fields(hop, host, noted))
    if rules.via:
        check_loop(noted.get(b"via", ()), rules.via)
        head.headers += ((b"Via", b"%d.%d %b" % (*divmod(version, 10), rules.via)),)


# ------------------------------------------------------------------ fields
def _sort(fields: Fields, hop: Hop, rules: HeadRules) -> tuple[Fields, dict[bytes, list[bytes]]]:
    """The fields that go on, and the values of those that mean something here."""
    kept: Fields = []
    noted: dict[bytes, list[bytes]] = {}
    places = rules.places
    for pair in fields:
        place = places.get(pair[0])
        if place is None:
            place = _place(pair[0], rules)
        if place is ORDINARY:
            kept.append(pair)
        elif place is IDENTITY:
            if hop.is_trusted:
                kept.append(pair)
        else:
            noted.setdefault(place, []).append(pair[1])
            if place not in _ENDS_HERE:
                kept.append(pair)
    return kept, noted


def _place(name: bytes, rules: HeadRules) -> bytes:
    """What is to be done with the field `name` under `rules`; remembered by the name as it is spelt."""
    place = lower = name.lower()
    if lower not in _NOTED:
        lower = twin_of(name)
        if lower in _FRAMING_TWINS:
            raise BadRequest("a field name could be taken for a framing field")
        place = IDENTITY if rules.strangers.may_not_say(lower) else ORDINARY
    if len(rules.places) >= _MOST_PLACES:
        rules.places.clear()
    rules.places[name] = place
    return place


def _tokens(values: Iterable[bytes]) -> set[bytes]:
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")} - {b""}


def _without(fields: Fields, names: AbstractSet[bytes]) -> Fields:
    return [pair for pair in fields if pair[0].lower() not in names] if names else fields


def _read_connection(values: list[bytes] | None) -> tuple[AbstractSet[bytes], AbstractSet[bytes]]:
    """The options of `Connection`, and the fields that end here because it names them."""
    if values is None:
        return _NO_OPTIONS, _NO_OPTIONS
    usual = _USUAL_OPTIONS.get(values[0]) if len(values) == 1 else None
    if usual is not None:
        return usual, _NO_OPTIONS
    tokens = _tokens(values)
    return tokens, {name for name in tokens if _may_be_named_away(name)}


def _may_be_named_away(name: bytes) -> bool:
    return name not in _NEVER_NAMED_AWAY and not name.startswith(_NEVER_NAMED_AWAY_PREFIXES)


# ------------------------------------------------------------------ target and host
def _read_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target to forward, and the authority of the absolute form."""
    if method in {b"CONNECT", b"TRACE"}:
        raise MethodNotAllowed("a reverse proxy does not do that")
    if b"#" in target:
        raise BadRequest("a request target has no fragment")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, None
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("malformed request target")
    authority, rest = match.groups()
    if not rest:
        return b"*" if method == b"OPTIONS" else b"/", authority
    return rest if rest.startswith(b"/") else b"/" + rest, authority


def _host_of(hosts: list[bytes], version: int, authority: bytes | None, hop: Hop) -> bytes:
    """`_read_host`, where it is not the one of the request before."""
    if hosts and hosts == hop.hosts and authority is None:
        return hosts[0]
    host = _read_host(hosts, version, authority)
    hop.hosts = hosts
    return host


def _read_host(hosts: list[bytes], version: int, authority: bytes | None) -> bytes:
    """The host that the request is for; empty when HTTP/1.0 names none."""
    if len(hosts) > 1 or (not hosts and version == 11):
        raise BadRequest("exactly one Host field is required")
    for name in (*hosts, *((authority,) if authority is not None else ())):
        _check_host(name)
    return authority if authority is not None else hosts[0] if hosts else b""


def _check_host(name: bytes) -> None:
    match = _HOST.fullmatch(name)
    if match is None or (match[2] and int(match[2]) > _LAST_PORT):
        raise BadRequest("malformed Host")
    if match[1] is not None:
        try:
            IPv6Address(match[1][1:-1].decode())
        except ValueError:
            raise BadRequest("malformed Host") from None


# ------------------------------------------------------------------ framing and wishes
def _read_framing(head: Head, noted: dict[bytes, list[bytes]], block: bytes) -> None:
    codings = noted.get(b"transfer-encoding")
    lengths = noted.get(b"content-length")
    if codings is not None:
        if lengths is not None or head.http_version < 11:
            raise BadRequest("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise CodingNotSupported("the only transfer coding is chunked")
        if not re.search(rb"(?im)^transfer-encoding: ?chunked\r\n", block):
            raise BadRequest("white space around a transfer coding")
        head.is_chunked = True
    elif lengths is not None:
        if len(lengths) > 1:
            raise BadRequest("more than one Content-Length")
        head.length = read_length(lengths[0])


def read_length(value: bytes) -> int:
    """The bytes that a Content-Length declares; raises `BadRequest`."""
    if not _LENGTH.fullmatch(value):
        raise BadRequest("malformed Content-Length")
    return int(value)


def _read_wishes(head: Head, noted: dict[bytes, list[bytes]], tokens: AbstractSet[bytes]) -> None:
    is_11 = head.http_version == 11
    expectations = noted.get(b"expect")
    if expectations is not None and head.http_version >= 11:
        if _tokens(expectations) != {b"100-continue"}:
            raise ExpectationFailed("the only expectation is 100-continue")
        head.expects_continue = head.has_body
    if b"upgrade" in tokens and b"upgrade" in noted and is_11 and not head.has_body:
        asked = [name.strip(b" \t") for value in noted[b"upgrade"] for name in value.split(b",")]
        head.upgrade = b", ".join(
            [name for name in asked if name and not name.lower().startswith((b"h2", b"http/"))]
        )
    head.wants_trailers = b"te" in noted and b"trailers" in _tokens(noted[b"te"])
    head.wants_debug = noted.get(b"pillion-debug") == [b"1"]
    head.timeout_wish = noted.get(b"x-request-timeout", _NO_WISH)[0]


def _read_history(head: Head, noted: dict[bytes, list[bytes]]) -> None:
    head.request_id = read_request_id(noted.get(b"x-request-id"))
    head.trace = read_trace(noted.get(b"traceparent"))
    if head.method == b"OPTIONS" and b"max-forwards" in noted:
        hops = noted[b"max-forwards"]
        if len(hops) > 1:
            raise BadRequest("more than one Max-Forwards")
        head.is_for_us = hops[0].isdigit() and not hops[0].strip(b"0")


def _kept_for_next(head: Head, kept: Fields, noted: dict[bytes, list[bytes]]) -> Fields:
    """`kept` with the hop-by-hop fields that the next hop needs from this one."""
    if head.method == b"OPTIONS" and b"max-forwards" in noted:
        hops = noted[b"max-forwards"][0]
        if hops.isdigit() and len(hops) < 10:
            kept = [*_without(kept, {b"max-forwards"}), (b"Max-Forwards", b"%d" % (int(hops) - 1))]
    if head.wants_trailers:
        kept.append((b"TE", b"trailers"))
    if head.is_chunked and b"trailer" in noted:
        named = [name.strip(b" \t") for value in noted[b"trailer"] for name in value.split(b",")]
        announced = b", ".join([name for name in named if name and may_trail(name)])
        if announced:
            kept.append((b"Trailer", announced))
    return kept
