"""The request parser: framing, limits, refusals, and what the backend will see."""

from __future__ import annotations

import pytest

from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    CodingNotSupported,
    HeadersTooLarge,
    ProxyError,
    VersionNotSupported,
)
from proxy.exchange import Stream
from tests.support.parsing import OURS, POST, one, parser


def test_a_small_request_carries_its_body_as_bytes() -> None:
    arrival = one(POST)
    assert arrival.call.method == b"POST"
    assert arrival.call.target == b"/v1/models/m:predict?x=%2F"
    assert arrival.call.headers == ((b"Host", b"h"), (b"X-One", b"1"), (b"x-one", b"2"), *OURS)
    assert arrival.call.body == b"abc"
    assert arrival.head.keep_alive
    assert not arrival.head.expects_continue


@pytest.mark.parametrize("cut", range(1, len(POST)))
def test_a_request_may_arrive_in_any_two_pieces(cut: int) -> None:
    subject = parser()
    arrivals = subject.feed(POST[:cut]) + subject.feed(POST[cut:])
    assert [arrival.call.target for arrival in arrivals] == [b"/v1/models/m:predict?x=%2F"]
    body = arrivals[0].call.body
    got = body if isinstance(body, bytes) else body.read_nowait()
    assert got == b"abc"
    assert subject.is_idle


def test_pipelined_requests_come_out_in_order() -> None:
    arrivals = parser().feed(POST * 3 + b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [arrival.call.method for arrival in arrivals] == [b"POST", b"POST", b"POST", b"GET"]


async def test_a_body_beyond_the_first_read_becomes_a_stream() -> None:
    subject = parser()
    (arrival,) = subject.feed(b"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nab")
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert body.length == 6
    assert await body.read() == b"ab"
    assert subject.feed(b"cdef" + POST)[0].call.body == b"abc"
    assert await body.read() == b"cdef"
    assert await body.read() == b""


async def test_chunks_are_unwrapped_and_trailers_kept() -> None:
    subject = parser()
    (arrival,) = subject.feed(
        b"POST /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n"
    )
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert body.length is None
    subject.feed(b"2\r\nde\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n")
    assert await body.read() == b"abcde"
    assert await body.read() == b""
    assert body.trailers == ((b"X-Sum", b"1"), (b"X-More", b"2"))


def test_hop_by_hop_fields_and_those_named_by_connection_stay_behind() -> None:
    arrival = one(
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close, X-Mine, authorization\r\nX-Mine: 1\r\nAuthorization: a\r\n"
        b"Connection: x-other\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Connection: x\r\nA:\r\n\r\n"
    )
    assert arrival.call.headers == (
        (b"Host", b"h"),
        (b"Authorization", b"a"),
        (b"A", b""),
        (b"TE", b"trailers"),
        *OURS,
    )
    assert not arrival.head.keep_alive


def test_http_1_0_closes_unless_it_asks_and_needs_no_host() -> None:
    assert not one(b"GET / HTTP/1.0\r\n\r\n").head.keep_alive
    asking = one(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert asking.head.keep_alive
    assert asking.call.http_version == 10


def test_an_expectation_is_seen() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
    assert one(head).head.expects_continue


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("pieces", [1, 1000])
async def test_an_upgrade_with_a_body_is_an_ordinary_request(framing: bytes, pieces: int) -> None:
    subject = parser()
    data = b"POST /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + framing + POST
    step = max(1, len(data) // pieces)
    arrivals = [a for i in range(0, len(data), step) for a in subject.feed(data[i : i + step])]
    assert [a.call.target for a in arrivals] == [b"/up", b"/v1/models/m:predict?x=%2F"]
    body = arrivals[0].call.body
    assert (body if isinstance(body, bytes) else await body.read()) == b"abc"


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"


async def test_what_follows_an_upgrade_is_not_read_as_http() -> None:
    subject = parser()
    (arrival,) = subject.feed(UPGRADE + b"\x81\x05hello")
    assert arrival.call.upgrade == b"websocket"
    assert arrival.call.header(b"upgrade") is None
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert subject.feed(POST) == []
    assert await body.read() == b"\x81\x05hello" + POST
    subject.eof()
    assert await body.read() == b""


def test_a_declined_upgrade_leaves_http_behind() -> None:
    subject = parser()
    subject.feed(UPGRADE + POST[:20])
    assert subject.decline_upgrade() == []
    assert [a.call.target for a in subject.feed(POST[20:])] == [b"/v1/models/m:predict?x=%2F"]
    assert subject.decline_upgrade() == []


@pytest.mark.parametrize("upgrade", [b"h2c", b"HTTP/2.0", b""])
def test_an_upgrade_to_http_2_is_an_ordinary_request(upgrade: bytes) -> None:
    arrival = one(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade)
    assert arrival.call.upgrade == b""
    assert arrival.call.body == b""


@pytest.mark.parametrize(
    ("request_bytes", "error"),
    [
        (b"GARBAGE\r\n\r\n", BadRequest),
        (b"GET / HTTP/1.1\r\n\r\n", BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BadRequest),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", VersionNotSupported),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadRequest,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", BadRequest),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", BadRequest),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", CodingNotSupported),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingNotSupported,
        ),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadRequest),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", BodyTooLarge),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
            BodyTooLarge,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 10 + b"\r\n", HeadersTooLarge),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB: " + b"b" * 500 + b"\r\n\r\n", HeadersTooLarge),
    ],
)
def test_refused(request_bytes: bytes, error: type[ProxyError]) -> None:
    subject = parser(body=100, headers=8, header_bytes=400)
    subject.feed(request_bytes)
    assert type(subject.fault) is error
    assert "bbb" not in str(subject.fault), "an error never echoes what the client sent"
    assert subject.feed(POST) == [], "nothing behind a fault is looked at"


def test_an_endless_field_is_bounded() -> None:
    subject = parser(header_bytes=1000)
    begun = b"GET / HTTP/1.1\r\nHost: a\r\nB: "
    subject.feed(begun)
    subject.feed(b"x" * (1000 - len(begun)))
    assert subject.fault is None
    subject.feed(b"x")
    assert isinstance(subject.fault, HeadersTooLarge)


def test_good_requests_before_a_fault_are_handed_over_first() -> None:
    subject = parser()
    assert len(subject.feed(POST + b"BAD\r\n\r\n")) == 1
    assert isinstance(subject.fault, BadRequest)


async def test_a_fault_in_a_streamed_body_breaks_it_off() -> None:
    subject = parser()
    (arrival,) = subject.feed(
        b"POST /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    subject.feed(b"zz\r\n")
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert await body.read() == b"abc"
    with pytest.raises(BadRequest):
        await body.read()


async def test_a_client_that_closes_mid_body_breaks_it_off() -> None:
    subject = parser()
    (arrival,) = subject.feed(b"POST /f HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    subject.eof()
    subject.eof()
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert await body.read() == b"abc"
    with pytest.raises(BadRequest):
        await body.read()


async def test_trailers_make_even_a_small_body_a_stream() -> None:
    arrival = one(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert await body.read() == b"x"
    assert await body.read() == b""
    assert body.trailers == ((b"X-Sum", b"1"),)


def test_an_expectation_goes_on_with_a_body_that_is_still_to_come() -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert one(head).call.header(b"expect") == b"100-continue"
    assert one(head + b"abc").call.header(b"expect") is None


def test_one_empty_line_before_each_request_is_skipped() -> None:
    subject = parser()
    assert len(subject.feed(b"\r\n" + POST + b"\r\n" + POST)) == 2
    assert subject.feed(b"\r") == []
    assert subject.is_in_head
    assert len(subject.feed(b"\n" + POST)) == 1
    assert subject.feed(b"\r\n\r\n") == []
    assert isinstance(subject.fault, BadRequest)


def test_a_whole_head_over_the_limit_is_refused() -> None:
    subject = parser(header_bytes=60)
    subject.feed(b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * 60 + b"\r\n\r\n")
    assert isinstance(subject.fault, HeadersTooLarge)


def test_a_client_that_closes_in_a_head_is_told() -> None:
    subject = parser()
    subject.eof()
    assert subject.fault is None
    subject.feed(b"GET /")
    subject.eof()
    assert isinstance(subject.fault, BadRequest)


def test_a_client_of_its_own_id_and_trace_keeps_them() -> None:
    trace = b"4bf92f3577b34da6a3ce929d0e0e4736"
    arrival = one(
        b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\ntraceparent: 00-%b-00f067aa0ba902b7-01\r\n\r\n"
        % trace
    )
    assert arrival.request_id == b"mine"
    assert arrival.call.header(b"x-request-id") == b"mine"
    assert arrival.call.header(b"traceparent") == b"00-%b-%b-01" % (trace, b"b" * 16)


def test_a_request_line_that_cannot_be_read_names_nothing() -> None:
    subject = parser()
    subject.feed(b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert subject.refused == (b"", b"")


def test_the_end_of_a_tunnel_that_was_broken_off_is_no_news() -> None:
    subject = parser()
    (arrival,) = subject.feed(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert isinstance(arrival.call.body, Stream)
    fault = BadRequest("over")
    subject.break_off(fault)
    subject.eof()
    assert arrival.call.body.error is fault
