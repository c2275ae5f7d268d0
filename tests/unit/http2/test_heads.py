"""What header lists mean; what is refused stands in the conformance table as far as requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.http2.errors import StreamError
from proxy.http2.headers import parse_request, parse_response, parse_trailers

if TYPE_CHECKING:
    from proxy.exchange import Headers

GET: Headers = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))


def test_request() -> None:
    head = parse_request((*GET, (b"x", b"1"), (b"x", b"2"), (b"content-length", b"7"), (b"te", b"trailers")))
    assert (head.method, head.scheme, head.target) == (b"GET", b"http", b"/")
    assert head.headers == ((b"host", b"a"), (b"x", b"1"), (b"x", b"2"))
    assert (head.content_length, head.timeout_s, head.is_grpc, head.expects_continue) == (
        7,
        None,
        False,
        False,
    )


def test_host_moves_to_the_front() -> None:
    assert parse_request((*GET[:3], (b"x", b"1"), (b"host", b"b"))).headers == ((b"host", b"b"), (b"x", b"1"))
    assert parse_request((*GET, (b"host", b"A"))).headers == ((b"host", b"a"),)


def test_cookie_crumbs_are_joined() -> None:
    head = parse_request((*GET, (b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2")))
    assert head.headers == ((b"host", b"a"), (b"x", b"1"), (b"cookie", b"a=1; b=2"))
    assert parse_request((*GET, (b"cookie", b"a=1"))).headers == ((b"host", b"a"), (b"cookie", b"a=1"))


def test_expectation_and_timeout_become_facts() -> None:
    head = parse_request((*GET, (b"expect", b"100-Continue"), (b"grpc-timeout", b"2S")))
    assert (head.expects_continue, head.timeout_s, head.headers) == (True, 2.0, ((b"host", b"a"),))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;x=y", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
    ],
)
def test_what_grpc_is(kind: bytes, expected: bool) -> None:
    assert parse_request((*GET, (b"content-type", kind))).is_grpc is expected


@pytest.mark.parametrize(
    "fields",
    [
        ((b":method", b"CONNECT"), (b":authority", b"a:1"), (b":scheme", b"http")),
        ((b":method", b"CONNECT"), (b":authority", b"")),
        (*GET, (b"grpc-timeout", b"2 seconds")),
        (*GET, (b"host", b"a/b")),
        (*GET[:3], (b"host", b"a/b")),
        (*GET, (b"host", b"a"), (b"host", b"b")),
        ((b":method", b"G T"), *GET[1:]),
        (GET[0], (b":scheme", b"ht tp"), *GET[2:]),
        (*GET, (b"x", b"\x7f")),
    ],
)
def test_refused_requests(fields: Headers) -> None:
    with pytest.raises(StreamError):
        parse_request(fields)


def test_connect() -> None:
    head = parse_request(((b":method", b"CONNECT"), (b":authority", b"a:1")))
    assert (head.method, head.target, head.headers) == (b"CONNECT", b"a:1", ((b"host", b"a:1"),))


def test_response() -> None:
    head = parse_response(((b":status", b"404"), (b"content-length", b"3"), (b"x", b"1")))
    assert head == (404, ((b"x", b"1"),), 3)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b":status", b"20"),),
        ((b":status", b"099"),),
        ((b":status", b"101"),),
        ((b":status", b"200"), (b":path", b"/")),
        ((b":status", b"200"), (b"connection", b"close")),
    ],
)
def test_refused_responses(fields: Headers) -> None:
    with pytest.raises(StreamError):
        parse_response(fields)


def test_trailers_cannot_reframe_a_message() -> None:
    fields = ((b"content-length", b"1"), (b"host", b"a"), (b"grpc-status", b"0"), (b"x-bin", b"AA=="))
    assert parse_trailers(fields) == ((b"grpc-status", b"0"), (b"x-bin", b"AA=="))
    with pytest.raises(StreamError):
        parse_trailers(((b":status", b"200"),))
