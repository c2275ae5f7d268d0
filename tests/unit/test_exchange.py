"""The stream between one producer and one consumer, and the field lookup."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import Reset
from proxy.exchange import Call, Reply, Stream, field


class Source:
    """Remembers what the consumer's side asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def abandon(self) -> None:
        self.asked.append("abandon")


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
    stream = Stream(Source())
    stream.feed(b"x")
    stream.fail(Reset("gone"))
    stream.fail(Reset("again"))
    assert await stream.read() == b"x"
    with pytest.raises(Reset, match="gone"):
        await stream.read()
    assert str(stream.error) == "gone"


def test_watermarks_pause_and_resume_the_producer() -> None:
    source = Source()
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
    source = Source()
    stream = Stream(source, high=1)
    stream.feed(b"xx")
    stream.end()
    stream.read_nowait()
    assert source.asked == ["pause"]
    assert stream.is_ended


def test_abandoning_frees_the_source_once_and_drops_what_comes() -> None:
    source = Source()
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
    source = Source()
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
