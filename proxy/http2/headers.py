"""What header lists mean: the rules of RFC 9113 §8 between a decoded block and a `Call` or a `Reply`.

Theory of operation
-------------------
A decoded block is a flat list of fields. Each function here turns one into a head, refuses it with a
`StreamError` (the RFC's *malformed*, always PROTOCOL_ERROR), and leaves out what only frames the message on
this connection, because the other side frames it anew: ``content-length`` becomes a number against which the
DATA is counted, ``te`` and ``grpc-timeout`` are dropped (the one says how to answer *us*, the other becomes a
span from which the remaining time is computed again).

The checks are stricter than the RFC where HTTP/1.1 stands behind us: a field name must be a token and a value
free of control characters, and a target must not hold spaces or a fragment. What HTTP/2 carries as an opaque
string would otherwise be a second request in the text of the first. In one thing they are less strict: spaces
around a value, which gRPC's metadata may have, are removed where gRPC is spoken.

``:authority`` leads the fields as ``host``, its HTTP/1.1 name; a ``host`` beside it must agree, and one of
the two must be there, since HTTP/1.1 cannot do without. Cookie crumbs are joined again (§8.2.3). Trailers
lose the fields that would reframe or reroute a message (RFC 9110 §6.5.1).

Some fields have another value in each call. They are set aside before a request's head is made, so that all
calls of one kind share one head, and what others derive from it: `RequestReader` finds it by the fields that
remain. Heads are kept here and by the caches of `blocks`: they are immutable.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.exchange import Headers
from proxy.http2.errors import ErrorCode, StreamError
from proxy.http2.grpc import parse_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "RequestHead",
    "RequestOpening",
    "RequestReader",
    "ResponseHead",
    "is_unique",
    "parse_response",
    "parse_trailers",
)

_is_name: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_value: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?").fullmatch
_is_token: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_target: Final = re.compile(rb"\*|/[!\"$-~\x80-\xff]*").fullmatch
_is_authority: Final = re.compile(rb"[!$&'()*+,;=:\[\]%\-._~0-9A-Za-z]*").fullmatch  # no user information
_is_grpc_type: Final = re.compile(rb"application/grpc(?:[+;].*)?").fullmatch  # and not application/grpc-web
_is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch
_is_status: Final = re.compile(rb"[1-9][0-9]{2}").fullmatch

_CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_FRAMING: Final = frozenset({b"content-length", b"te"})
_OWN: Final = frozenset({b"grpc-timeout", b"traceparent", b"tracestate", b"x-request-id"})
_MOST_HEADS: Final = 256
_REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_RESPONSE_PSEUDO: Final = frozenset({b":status"})
_NOT_IN_TRAILERS: Final = frozenset(
    {b"content-length", b"host", b"te", b"trailer", b"authorization", b"cookie"}
)


class RequestHead(NamedTuple):
    """The opening of a request.

    `content_length` is the declared number of body bytes, None when not given. `headers` starts with
    ``host``. `expects_continue` says that the client waits for a 100.
    """

    method: bytes
    scheme: bytes
    target: bytes
    headers: Headers
    content_length: int | None
    is_grpc: bool
    expects_continue: bool


RequestOpening = tuple[RequestHead, float | None, Headers]
"""What opens one request: the head that it shares with others, and what is its own.

That is the span of ``grpc-timeout`` in seconds, None when not given, and the fields, each there at most once,
that name the request and its trace. A plain tuple, since one is made for each call.
"""


class ResponseHead(NamedTuple):
    """The opening of an answer; a status below 200 announces another head."""

    status: int
    headers: Headers
    content_length: int | None


class RequestReader:
    """Reads the field lists of one connection's requests; equal heads come out as one object."""

    __slots__ = ("_heads", "_last", "_last_fields")

    def __init__(self) -> None:
        self._heads: dict[Headers, RequestHead] = {}
        self._last: RequestHead | None = None
        self._last_fields: Headers = ()

    def __call__(self, fields: Headers) -> RequestOpening:
        """The opening of a request, or `StreamError`.

        Nearly always what is a call's own comes last, and the rest was seen before.
        """
        at = len(fields)
        while at and fields[at - 1][0] in _OWN:
            at -= 1
        head = self._known(fields[:at])
        timeout: bytes | None = None
        own: list[tuple[bytes, bytes]] = []
        for field in fields[at:]:
            name, value = field
            if name != b"grpc-timeout":
                _check_value(name, value)
                own.append(field)
            elif timeout is None:
                timeout = value
            else:
                head = None
        if head is None or (len(own) > 1 and len({name for name, _ in own}) < len(own)):
            return self._sort_out(fields)
        return head, None if timeout is None else _timeout(timeout), tuple(own)

    def _known(self, shared: Headers) -> RequestHead | None:
        """The head of `shared`, most often that of the call before: comparing costs less than a hash."""
        if shared == self._last_fields:
            return self._last
        head = self._heads.get(shared)
        if head is not None:
            self._last, self._last_fields = head, shared
        return head

    def _sort_out(self, fields: Headers) -> RequestOpening:
        shared: list[tuple[bytes, bytes]] = []
        own: list[tuple[bytes, bytes]] = []
        timeout = None
        for field in fields:
            name, value = field
            if name not in _OWN:
                if own and name[:1] == b":":
                    raise _malformed(f"pseudo-header {name!r} after a regular field")
                shared.append(field)
            elif name == b"grpc-timeout":
                if timeout not in {None, value}:
                    raise _malformed("grpc-timeout is given twice")
                timeout = value
            else:
                _check_value(name, value)
                own.append(field)
        if len(own) > 1 and len({name for name, _ in own}) < len(own):
            shared += own  # which of two counts is for whoever judges the head
            own = []
        timeout_s = None if timeout is None else _timeout(timeout)
        return self._head(tuple(shared)), timeout_s, tuple(own)

    def _head(self, fields: Headers) -> RequestHead:
        head = self._heads.get(fields)
        if head is None:
            head = _parse_request(fields)
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[fields] = head
        return head


def is_unique(opening: RequestOpening) -> bool:
    """Whether a request has an id or a trace, which no other one will have."""
    return bool(opening[2])


def _parse_request(fields: Headers) -> RequestHead:
    pseudo, regular = _split(fields, _REQUEST_PSEUDO)
    method = pseudo.get(b":method", b"")
    if not _is_token(method):
        raise _malformed(":method is missing or is no token")
    scheme, target, authority = _target(pseudo, is_connect=method == b"CONNECT")
    if target == b"*" and method != b"OPTIONS":
        raise _malformed(":path is * and the method is not OPTIONS")
    regular = _with_host(regular, authority)
    is_waiting = any(name == b"expect" and value.lower() == b"100-continue" for name, value in regular)
    left_out = _FRAMING | {b"expect"} if is_waiting else _FRAMING
    return RequestHead(
        method,
        scheme,
        target,
        tuple(field for field in _join_cookies(regular) if field[0] not in left_out),
        _content_length(regular),
        _is_grpc(regular),
        is_waiting,
    )


def parse_response(fields: Headers) -> ResponseHead:
    """The head of an answer or of an interim answer, or `StreamError`."""
    pseudo, regular = _split(fields, _RESPONSE_PSEUDO)
    status = pseudo.get(b":status", b"")
    if not _is_status(status):
        raise _malformed(":status is missing or is no status")
    if status == b"101":
        raise _malformed("status 101 does not exist in HTTP/2")
    headers = tuple(field for field in regular if field[0] != b"content-length")
    return ResponseHead(int(status), headers, _content_length(regular))


def parse_trailers(fields: Headers) -> Headers:
    """The fields after a body, or `StreamError`."""
    _pseudo, regular = _split(fields, frozenset())
    return tuple(field for field in regular if field[0] not in _NOT_IN_TRAILERS)


def _split(
    fields: Headers, allowed: frozenset[bytes]
) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    pseudo: dict[bytes, bytes] = {}
    regular: list[tuple[bytes, bytes]] = []
    for field in fields:
        name, value = field
        if not _is_value(value):
            value = _trimmed(name, value, fields)
        if name[:1] != b":":
            _check_regular(name, value)
            regular.append((name, value))
        elif regular:
            raise _malformed(f"pseudo-header {name!r} after a regular field")
        elif name not in allowed or name in pseudo:
            raise _malformed(f"pseudo-header {name!r} is repeated, unknown or out of place")
        else:
            pseudo[name] = value
    return pseudo, regular


def _check_value(name: bytes, value: bytes) -> None:
    if not value.replace(b"-", b"").isalnum() and not _is_value(value):
        raise _malformed(f"field {name!r} holds a control character or outer white space")


def _trimmed(name: bytes, value: bytes, fields: Headers) -> bytes:
    """The value without the spaces around it, which gRPC allows in metadata and lets anybody remove."""
    if name[:1] != b":" and (_is_grpc(fields) or any(key == b"grpc-status" for key, _ in fields)):
        value = value.strip(b" ")
    _check_value(name, value)
    return value


def _check_regular(name: bytes, value: bytes) -> None:
    if not _is_name(name):
        raise _malformed(f"field name {name!r} is no lower-case token")
    if name in _CONNECTION_FIELDS:
        raise _malformed(f"connection-specific field {name!r}")
    if name == b"te" and value.lower() != b"trailers":
        raise _malformed("te is not trailers")


def _target(pseudo: dict[bytes, bytes], *, is_connect: bool) -> tuple[bytes, bytes, bytes]:
    """(scheme, path, authority), each checked."""
    authority = pseudo.get(b":authority", b"")
    if not _is_authority(authority):
        raise _malformed(":authority is no host and port")
    if is_connect:
        if b":scheme" in pseudo or b":path" in pseudo or not authority:
            raise _malformed("CONNECT takes :authority alone")
        return b"", authority, authority
    scheme, path = pseudo.get(b":scheme", b""), pseudo.get(b":path", b"")
    if not _is_token(scheme):
        raise _malformed(":scheme is missing or is no token")
    if not _is_target(path):
        raise _malformed(":path is missing or is no path")
    return scheme, path, authority


def _with_host(regular: list[tuple[bytes, bytes]], authority: bytes) -> list[tuple[bytes, bytes]]:
    """The fields with one ``host``, in front."""
    host = _single(regular, b"host")
    if host is not None:
        if authority and host.lower() != authority.lower():
            raise _malformed("host is not :authority")
        if not _is_authority(host):
            raise _malformed("host is no host and port")
        authority = authority or host
        regular = [field for field in regular if field[0] != b"host"]
    if not authority:
        raise _malformed("neither :authority nor host")
    return [(b"host", authority), *regular]


def _join_cookies(regular: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    crumbs = [value for name, value in regular if name == b"cookie"]
    if len(crumbs) < 2:
        return regular
    joined = [field for field in regular if field[0] != b"cookie"]
    joined.append((b"cookie", b"; ".join(crumbs)))
    return joined


def _content_length(regular: list[tuple[bytes, bytes]]) -> int | None:
    value = _single(regular, b"content-length")
    if value is None:
        return None
    if not _is_length(value):
        raise _malformed("content-length is no number")
    return int(value)


def _single(regular: list[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of a field that must not be given twice with different values."""
    values = {value for key, value in regular if key == name}
    if len(values) > 1:
        raise _malformed(f"{name.decode()} is given twice")
    return values.pop() if values else None


def _timeout(value: bytes) -> float:
    span = parse_timeout(value)
    if span is None:
        raise _malformed("grpc-timeout is no timeout")
    return span


def _is_grpc(regular: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and _is_grpc_type(value) is not None for name, value in regular)


def _malformed(why: str) -> StreamError:
    return StreamError(ErrorCode.PROTOCOL_ERROR, why)
