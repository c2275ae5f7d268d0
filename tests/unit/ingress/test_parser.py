"""The request parser: framing, limits, refusals, and what the backend will see."""

from __future__ import annotations

import hashlib

import pytest

from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    BuffersFull,
    CodingNotSupported,
    HeadersTooLarge,
    ProxyError,
    Unauthorized,
    VersionNotSupported,
)
from proxy.exchange import Ledger, Stream
from proxy.ingress.parser import Arrival, RequestParser
from proxy.ingress.policy import AuthPolicy, ForwardingPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules


class Socket:
    """The flow side of a connection: remembers what the stream asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def abandon(self) -> None:
        self.asked.append("abandon")


def parser(**limits: int) -> RequestParser:
    policy = LimitPolicy.model_construct(**{**LimitPolicy().__dict__, **limits})
    rules = HeadRules(policy, forwarding=ForwardingPolicy(via="off"))
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    return RequestParser(rules, hop, Socket(), ledger=Ledger(1 << 30), new_ids=lambda: (b"a" * 32, b"b" * 16))


OURS = (
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"h"),
    (b"Forwarded", b'for=192.0.2.1;host="h";proto=http'),
    (b"X-Request-Id", b"a" * 32),
    (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00"),
)


def one(data: bytes) -> Arrival:
    (arrival,) = parser().feed(data)
    return arrival


POST = b"POST /v1/models/m:predict?x=%2F HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 3\r\n\r\nabc"


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


def test_a_repeated_head_is_recognised_and_gives_the_same_call() -> None:
    subject = parser()
    (first,) = subject.feed(POST)
    (again,) = subject.feed(POST[:-3] + b"xyz")
    assert again.call.body == b"xyz"
    assert (again.call.method, again.call.target, again.call.headers) == (
        first.call.method,
        first.call.target,
        first.call.headers,
    )
    assert again.call.head is first.head
    assert subject.is_idle


def test_calls_with_different_heads_have_no_head_in_common() -> None:
    subject = parser()
    arrivals = [*subject.feed(POST), *subject.feed(POST.replace(b"Host: h", b"Host: g"))]
    assert [arrival.call.head for arrival in arrivals] == [None, None]


def test_a_head_that_differs_in_values_only_gives_the_call_that_it_would_give_by_itself() -> None:
    subject = parser()
    subject.feed(POST)
    for other in (
        POST.replace(b"X-One: 1", b"X-One: 9"),
        POST.replace(b"X-One: 1", b"X-One: 9"),  # and the same again
        POST.replace(b"Length: 3", b"Length: 2")[:-1],
        POST.replace(b"Length: 3", b"Length: 2"),  # a byte too many, of the next head
    ):
        call, alone = subject.feed(other)[0].call, parser().feed(other)[0].call
        assert (call.target, call.headers, call.body) == (alone.target, alone.headers, alone.body)


def test_a_head_that_differs_and_a_body_still_to_come() -> None:
    subject = parser()
    subject.feed(POST)
    (arrival,) = subject.feed(POST.replace(b"X-One: 1", b"X-One: 9")[:-1])
    subject.feed(b"c")
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert body.read_nowait() == b"abc"


def test_heads_that_have_nothing_in_common_are_all_read() -> None:
    subject = parser()
    for number in range(20):
        fields = b"X: 1\r\n" * number
        (arrival,) = subject.feed(b"GET /%d HTTP/1.1\r\nHost: h\r\n%b\r\n" % (number, fields))
        assert arrival.call.target == b"/%d" % number
    assert subject.fault is None


@pytest.mark.parametrize("tail", [b"ab", b"abcGET / HTTP/1.1\r\nHost: h\r\n\r\n", b""])
def test_a_repeated_head_with_another_body_length_takes_the_long_way(tail: bytes) -> None:
    subject = parser()
    subject.feed(POST)
    arrivals = subject.feed(POST[:-3] + tail)
    assert len(arrivals) == max(1, tail.count(b"GET") + 1)
    body = arrivals[0].call.body
    assert (body if isinstance(body, bytes) else body.read_nowait()) == tail[:3]


def test_a_repeated_head_inside_a_body_is_a_body() -> None:
    subject = parser()
    subject.feed(POST)
    (put,) = subject.feed(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(POST))
    assert subject.feed(POST) == []
    assert isinstance(put.call.body, Stream)
    assert put.call.body.read_nowait() == POST


@pytest.mark.parametrize(
    "first",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_repeats_of_any_kind_parse_alike(first: bytes) -> None:
    subject = parser()
    seen = [
        (a.call.target, a.call.body, a.call.headers, a.head.keep_alive, a.call.http_version)
        for _ in range(4)
        for a in subject.feed(first)
    ]
    assert len(seen) == 4
    assert len(set(seen)) == 1


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


KEYED = b"GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\r\n"


def keyed(*keys: bytes) -> HeadRules:
    digests = tuple(hashlib.sha256(key).hexdigest() for key in keys)
    return HeadRules(LimitPolicy(), auth=AuthPolicy(keys=digests), forwarding=ForwardingPolicy(via="off"))


@pytest.mark.parametrize("other", [KEYED, KEYED.replace(b"models", b"models/2")])
def test_what_was_judged_by_other_rules_is_judged_again(other: bytes) -> None:
    rules = keyed(b"one")
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    subject = RequestParser(rules, hop, Socket(), ledger=Ledger(0), new_ids=lambda: (b"a" * 32, b"b" * 16))
    for _ in range(3):
        assert len(subject.feed(KEYED)) == 1
    assert len(subject.feed(other)) == 1
    renewed = keyed(b"two")
    subject.renew(renewed, renewed.hop(b"192.0.2.1", scheme=b"http", port=0))
    assert subject.feed(other) == []
    assert isinstance(subject.fault, Unauthorized)
    assert subject.refused == (b"GET", other.split()[1])


def test_a_request_line_that_cannot_be_read_names_nothing() -> None:
    subject = parser()
    subject.feed(b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert subject.refused == (b"", b"")


def test_a_head_that_comes_twice_running_is_the_known_one_from_then_on() -> None:
    subject = parser()
    other = POST.replace(b"X-One: 1", b"X-One: 9")
    for data, is_known in ((POST, False), (POST, True), (other, False), (other, False), (other, True)):
        (arrival,) = subject.feed(data)
        assert (arrival.call.head is not None) is is_known
        assert arrival.call.headers == one(data).call.headers
    (again,) = subject.feed(POST)
    assert again.call.headers == one(POST).call.headers


def test_many_heads_that_differ_are_read_as_each_by_itself() -> None:
    subject = parser()
    for number in range(200):
        data = POST.replace(b"x-one: 2", b"x-one: %d" % number).replace(b"=%2F", b"=%d" % (number % 7))
        (arrival,) = subject.feed(data)
        expected = one(data).call
        assert (arrival.call.target, arrival.call.headers) == (expected.target, expected.headers)
        assert arrival.call.body == b"abc"


def test_the_end_of_a_tunnel_that_was_broken_off_is_no_news() -> None:
    subject = parser()
    (arrival,) = subject.feed(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert isinstance(arrival.call.body, Stream)
    fault = BadRequest("over")
    subject.break_off(fault)
    subject.eof()
    assert arrival.call.body.error is fault


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def counted(limit: int = 1 << 20) -> tuple[RequestParser, Ledger]:
    rules, ledger = HeadRules(LimitPolicy()), Ledger(limit)
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    return RequestParser(rules, hop, Socket(), ledger=ledger, new_ids=lambda: (b"a" * 32, b"b" * 16)), ledger


def test_of_many_requests_in_one_read_only_some_become_such_at_once() -> None:
    subject, ledger = counted()
    arrivals = subject.feed(GET * 100 + GET[:7])
    assert len(arrivals) == 8
    assert subject.has_more
    assert not subject.is_idle
    assert not subject.is_in_head
    assert ledger.used == 92 * len(GET) + 7
    rounds = 1
    while subject.has_more:
        arrivals += subject.feed(b"")
        rounds += 1
    assert (len(arrivals), rounds) == (100, 13)
    assert subject.is_in_head
    assert ledger.used == 7
    assert len(subject.feed(GET[7:])) == 1
    assert subject.is_idle
    assert ledger.used == 0


@pytest.mark.parametrize(("end", "fault"), [(b"", None), (GET[:7], BadRequest)])
def test_the_clients_end_is_behind_what_waits(end: bytes, fault: type[ProxyError] | None) -> None:
    subject, ledger = counted()
    arrivals = subject.feed(GET * 20 + end)
    subject.eof()
    assert subject.fault is None
    while subject.has_more:
        arrivals += subject.feed(b"")
    assert len(arrivals) == 20
    assert subject.fault is None if fault is None else isinstance(subject.fault, fault)
    assert ledger.used == 0


def test_nothing_is_held_for_a_client_that_left() -> None:
    subject, ledger = counted()
    subject.feed(GET * 20)
    subject.break_off(BadRequest("gone"))
    assert not subject.has_more
    assert ledger.used == 0


def test_the_beginning_of_a_head_counts_as_memory() -> None:
    subject, ledger = counted(limit=1000)
    assert subject.feed(GET[:-2] + b"A: " + b"a" * 500) == []
    assert ledger.used > 500
    assert subject.fault is None
    assert subject.feed(b"a" * 500) == []
    assert isinstance(subject.fault, BuffersFull)
    assert ledger.used == 0
