"""What header lists mean; what is refused stands in the conformance table as far as requests go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.http2.errors import StreamError
from proxy.http2.headers import RequestHead, RequestReader, parse_response, parse_trailers

if TYPE_CHECKING:
    from proxy.exchange import Headers

GET: Headers = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
TRACE = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


def parse_request(fields: Headers) -> RequestHead:
    return RequestReader()(fields)[0]


def test_request() -> None:
    head = parse_request((*GET, (b"x", b"1"), (b"x", b"2"), (b"content-length", b"7"), (b"te", b"trailers")))
    assert (head.method, head.scheme, head.target) == (b"GET", b"http", b"/")
    assert head.headers == ((b"host", b"a"), (b"x", b"1"), (b"x", b"2"))
    assert (head.content_length, head.is_grpc, head.expects_continue) == (7, False, False)


def test_host_moves_to_the_front() -> None:
    assert parse_request((*GET[:3], (b"x", b"1"), (b"host", b"b"))).headers == ((b"host", b"b"), (b"x", b"1"))
    assert parse_request((*GET, (b"host", b"A"))).headers == ((b"host", b"a"),)


def test_cookie_crumbs_are_joined() -> None:
    head = parse_request((*GET, (b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2")))
    assert head.headers == ((b"host", b"a"), (b"x", b"1"), (b"cookie", b"a=1; b=2"))
    assert parse_request((*GET, (b"cookie", b"a=1"))).headers == ((b"host", b"a"), (b"cookie", b"a=1"))


def test_expectation_and_timeout_become_facts() -> None:
    head, timeout_s, own = RequestReader()((*GET, (b"expect", b"100-Continue"), (b"grpc-timeout", b"2S")))
    assert (head.expects_continue, timeout_s, head.headers, own) == (True, 2.0, ((b"host", b"a"),), ())


def test_what_differs_in_each_call_is_kept_apart_from_the_head_they_share() -> None:
    read = RequestReader()
    first, timeout_s, own = read(
        (*GET, (b"x-request-id", b"a"), (b"x", b"1"), (b"grpc-timeout", b"1S"), TRACE)
    )
    second, *_ = read((*GET, (b"x", b"1"), (b"x-request-id", b"b")))
    assert first is second is read((*GET, (b"x", b"1")))[0]
    assert (timeout_s, own) == (1.0, ((b"x-request-id", b"a"), TRACE))
    assert first.headers == ((b"host", b"a"), (b"x", b"1"))


def test_of_two_traces_neither_is_the_call_s_own() -> None:
    head, timeout_s, own = RequestReader()((*GET, TRACE, (b"grpc-timeout", b"1S"), TRACE))
    assert (timeout_s, own) == (1.0, ())
    assert head.headers == ((b"host", b"a"), TRACE, TRACE)


def test_heads_are_forgotten_before_there_are_too_many() -> None:
    read = RequestReader()
    first = read(GET)[0]
    for number in range(300):
        read((*GET, (b"x", b"%d" % number)))
    again = read(GET)[0]
    assert again == first
    assert again is not first


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
        (*GET, (b"grpc-timeout", b"2S"), (b"grpc-timeout", b"3S")),
        (*GET, (b"traceparent", b"\n")),
        (TRACE, *GET),
        (*GET[:2], TRACE, *GET[2:]),
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


GRPC = (b"content-type", b"application/grpc")


def test_spaces_around_metadata_are_removed() -> None:
    spaced, trimmed = (b"x", b" a b "), (b"x", b"a b")
    assert parse_request((*GET, spaced, GRPC, (b"y", b" "))).headers[1:] == (trimmed, GRPC, (b"y", b""))
    assert parse_response(((b":status", b"200"), GRPC, spaced)).headers == (GRPC, trimmed)
    assert parse_trailers(((b"grpc-status", b"0"), spaced)) == ((b"grpc-status", b"0"), trimmed)


@pytest.mark.parametrize(
    "fields",
    [
        (*GET, (b"x", b" a")),
        (*GET, GRPC, (b"x", b"a\t")),
        (*GET, GRPC, (b"x", b" \x7f")),
        (*GET[:2], (b":path", b"/ "), GET[3], GRPC),
    ],
)
def test_other_space_is_refused(fields: Headers) -> None:
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


def test_what_is_a_call_s_own_may_stand_anywhere() -> None:
    read = RequestReader()
    first = read((*GET, (b"x", b"1")))[0]
    assert read((*GET, TRACE, (b"x", b"1"))) == (first, None, (TRACE,))
    assert read((*GET, (b"x", b"1"), TRACE)) == (first, None, (TRACE,))


def test_of_two_traces_behind_a_known_head_neither_is_the_call_s_own() -> None:
    read = RequestReader()
    first = read((*GET, TRACE))[0]
    head, _, own = read((*GET, TRACE, TRACE))
    assert head is not first
    assert (head.headers, own) == (((b"host", b"a"), TRACE, TRACE), ())


def test_a_known_head_forgives_no_second_timeout() -> None:
    read = RequestReader()
    timeout = (b"grpc-timeout", b"1S")
    assert read((*GET, timeout))[1] == read((*GET, timeout, timeout))[1] == 1.0
    with pytest.raises(StreamError, match="twice"):
        read((*GET, timeout, (b"grpc-timeout", b"2S")))
