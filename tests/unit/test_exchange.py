"""The stream between one producer and one consumer, and the field lookup."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import Reset
from proxy.exchange import Call, Ledger, Reply, Stream, field
from proxy.timing import NEVER, Deadline
from tests.support.recorded_flow import RecordedFlow


async def test_read_returns_all_that_is_there_and_then_the_end() -> None:
    stream = Stream(None)
    stream.feed(b"ab")
    stream.feed(b"cd")
    stream.end(((b"X", b"1"),))
    assert await stream.read() == b"abcd"
    assert await stream.read() == b""
    assert stream.trailers == ((b"X", b"1"),)
    assert stream.delivered == 4


async def test_read_waits_for_the_producer() -> None:
    stream = Stream(None)
    loop = asyncio.get_running_loop()
    loop.call_soon(stream.feed, b"x")
    assert await stream.read() == b"x"
    loop.call_soon(stream.end)
    assert await stream.read() == b""


async def test_a_cancelled_read_leaves_the_stream_usable() -> None:
    stream = Stream(None)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(stream.read())
        await asyncio.sleep(0)
        reading.cancel()
    stream.feed(b"x")
    assert await stream.read() == b"x"


async def test_a_failure_comes_after_the_bytes_that_did_arrive() -> None:
    stream = Stream(RecordedFlow())
    stream.feed(b"x")
    stream.fail(Reset("gone"))
    stream.fail(Reset("again"))
    assert await stream.read() == b"x"
    with pytest.raises(Reset, match="gone"):
        await stream.read()
    assert str(stream.error) == "gone"


def test_watermarks_pause_and_resume_the_producer() -> None:
    source = RecordedFlow()
    stream = Stream(source, high=10, low=4)
    stream.feed(b"x" * 10)
    assert source.asked == []
    stream.feed(b"x")
    stream.feed(b"x")
    assert source.asked == ["pause"]
    assert stream.read_nowait() == b"x" * 12
    assert stream.read_nowait() == b""
    assert source.asked == ["pause", "resume"]


def test_a_producer_that_ended_is_not_resumed() -> None:
    source = RecordedFlow()
    stream = Stream(source, high=1)
    stream.feed(b"xx")
    stream.end()
    stream.read_nowait()
    assert source.asked == ["pause"]
    assert stream.is_ended


def test_abandoning_frees_the_source_once_and_drops_what_comes() -> None:
    source = RecordedFlow()
    stream = Stream(source)
    closed: list[str] = []
    stream.on_close(lambda: closed.append("early"))
    stream.feed(b"x")
    stream.abandon()
    stream.abandon()
    stream.feed(b"y")
    stream.on_close(lambda: closed.append("late"))
    assert source.asked == ["abandon"]
    assert stream.buffered == 0
    assert closed == ["early", "late"]


def test_abandoning_an_ended_stream_asks_nothing_of_its_source() -> None:
    source = RecordedFlow()
    stream = Stream(source)
    stream.end()
    stream.abandon()
    assert source.asked == []


async def test_reading_the_end_closes_without_a_listener() -> None:
    stream = Stream(None)
    stream.end()
    assert await stream.read() == b""
    assert await stream.read() == b""


async def test_what_was_read_can_be_put_back() -> None:
    stream = Stream(None)
    stream.feed(b"ab")
    stream.unread(await stream.read())
    stream.feed(b"c")
    assert stream.delivered == 0
    assert await stream.read() == b"abc"
    assert stream.delivered == 3


def test_fields_are_found_whatever_their_case() -> None:
    headers = ((b"Accept", b"a"), (b"X-Id", b"1"), (b"x-id", b"2"))
    assert field(headers, b"x-id") == b"1"
    assert field(headers, b"x-no") is None
    assert Call(b"GET", b"/", headers).header(b"accept") == b"a"
    assert Reply(200, headers).header(b"x-id") == b"1"
    reply = Reply(200, headers)
    reply.added = ((b"Age", b"7"), (b"X-Id", b"2"))
    assert (reply.header(b"age"), reply.header(b"x-id"), reply.header(b"x")) == (b"7", b"1", None)


async def test_a_ledger_counts_what_waits() -> None:
    ledger = Ledger(1000)
    stream = Stream(None)
    stream.feed(b"before")
    stream.account(ledger)
    stream.account(ledger)
    assert ledger.used == 6
    stream.feed(b"x" * 10)
    assert ledger.used == 16
    data = await stream.read()
    assert ledger.used == 0
    stream.unread(data)
    assert ledger.used == 16
    stream.abandon()
    stream.feed(b"nobody wants this")
    stream.account(ledger)
    assert ledger.used == 0


async def test_a_tight_ledger_keeps_streams_to_one_read() -> None:
    ledger, tap = Ledger(1000), RecordedFlow()
    ledger.used = 700
    stream = Stream(tap)
    stream.account(ledger)
    stream.feed(b"x" * 50)
    assert tap.asked == []
    stream.feed(b"x")
    assert tap.asked == ["pause"]
    assert ledger.is_tight
    assert not ledger.is_full
    await stream.read()
    assert tap.asked == ["pause", "resume"]


async def test_a_body_is_gathered_and_stays_on_the_ledger_until_it_is_let_go() -> None:
    ledger = Ledger(10_000)
    stream = Stream(None, high=4)
    stream.account(ledger)
    stream.feed(b"abc")
    asyncio.get_running_loop().call_soon(stream.feed, b"defg")
    asyncio.get_running_loop().call_soon(stream.end)
    assert await stream.gather(100) == b"abcdefg"
    assert ledger.used == 7
    stream.abandon()
    assert ledger.used == 0


async def test_a_gathered_body_lets_a_paused_producer_go_on() -> None:
    tap = RecordedFlow()
    stream = Stream(tap, high=4)
    stream.feed(b"abcdef")
    asyncio.get_running_loop().call_soon(stream.end)
    assert await stream.gather(100) == b"abcdef"
    assert tap.asked == ["pause", "resume"]


async def test_a_body_that_is_declared_too_long_is_left_alone() -> None:
    stream = Stream(None, 101)
    assert await stream.gather(100) is None


async def test_a_body_that_grows_too_long_can_still_be_read() -> None:
    tap = RecordedFlow()
    stream = Stream(tap)
    stream.feed(b"abc")
    asyncio.get_running_loop().call_soon(stream.feed, b"defg")
    assert await stream.gather(5) is None
    assert tap.asked == ["pause"]
    assert await stream.read() == b"abcdefg"


async def test_a_body_that_ends_too_long_can_still_be_read() -> None:
    stream = Stream(None)
    stream.feed(b"abcdefg")
    stream.end()
    assert await stream.gather(5) is None
    assert await stream.read() == b"abcdefg"


async def test_trailers_and_failures_are_left_to_whoever_reads() -> None:
    with_trailers = Stream(None)
    with_trailers.feed(b"a")
    with_trailers.end(((b"X", b"1"),))
    assert await with_trailers.gather(5) is None
    failed = Stream(None)
    failed.feed(b"a")
    failed.fail(Reset("gone"))
    assert await failed.gather(5) is None
    assert await failed.read() == b"a"
    with pytest.raises(Reset):
        await failed.read()


async def test_a_claimed_body_is_asked_for_here() -> None:
    told: list[int] = []
    call = Call(b"POST", b"/", ((b"A", b"b"), (b"Expect", b"100-continue")))
    call.on_informational = lambda status, _headers: told.append(status)
    call.claim_body()
    call.claim_body()
    assert told == [100]
    assert call.headers == ((b"A", b"b"),)
    deaf = Call(b"POST", b"/", ((b"expect", b"100-continue"),))
    deaf.claim_body()
    assert deaf.headers == ()


async def test_a_stream_left_when_every_byte_was_taken_and_the_end_had_come_is_complete() -> None:
    stream = Stream(None)
    stream.feed(b"x")
    stream.end()
    await stream.read()
    stream.abandon()
    assert stream.is_complete


async def test_a_stream_left_before_its_end_or_with_bytes_untaken_is_not_complete() -> None:
    endless = Stream(None)
    endless.feed(b"x")
    await endless.read()
    unread = Stream(None)
    unread.feed(b"x")
    unread.end()
    for stream in (endless, unread):
        stream.abandon()
        assert not stream.is_complete


def test_a_repeated_call_asks_for_the_same_and_has_spans_of_its_own() -> None:
    call = Call(b"POST", b"/v1", ((b"host", b"a"),), b"body", deadline=Deadline(5.0))
    call.own, call.identity, call.dialect, call.is_grpc = ((b"x-request-id", b"1"),), b"alice", "openai", True
    call.upstream_s, call.batch = 1.0, b"size=2"
    call.on_informational = lambda _status, _headers: None
    again = call.repeated()
    assert (again.method, again.target, again.headers, again.body) == (b"POST", b"/v1", call.headers, b"body")
    assert (again.identity, again.dialect, again.is_grpc) == (b"alice", "openai", True)
    assert (again.upstream_s, again.batch, again.on_informational) == (0.0, b"", None)
    assert again.deadline == NEVER


def test_a_call_that_is_seen_off_leaves_once() -> None:
    call = Call(b"GET", b"/", ())
    call.left()
    said: list[str] = []
    call.on_left = lambda: said.append("left")
    call.left()
    call.left()
    assert said == ["left"]


def test_whoever_acts_for_a_call_accounts_to_it() -> None:
    call, own = Call(b"POST", b"/v1", ()), Call(b"GET", b"/", ())
    call.identity, call.idempotent, call.peer = b"alice", True, b"10.0.0.1"
    own.act_for(call)
    assert (own.identity, own.idempotent, own.peer) == (b"alice", True, b"10.0.0.1")
    own.queue_s, own.pool_s, own.upstream_s, own.batch = 1.0, 2.0, 3.0, b"size=2"
    own.account_to(call)
    assert (call.queue_s, call.pool_s, call.upstream_s, call.batch) == (1.0, 2.0, 3.0, b"size=2")
