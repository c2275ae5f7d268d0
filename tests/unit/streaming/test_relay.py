"""The relay's own decisions, on a transport that a test controls."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from proxy.errors import ReaderStalled, Reset
from proxy.exchange import Stream
from proxy.kernel_buffers import FOR_ALL, FOR_THE_FAST
from proxy.streaming.relay import Relay
from tests.support.clock import FakeClock
from tests.support.recorded_flow import RecordedFlow
from tests.support.waiting import PATIENCE_S


class Socket:
    """Remembers how much the kernel may hold unsent."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.bounds: list[int] = []

    def setsockopt(self, _level: int, _option: int, value: int) -> None:
        self.bounds.append(value)


class Transport:
    """Takes what fits into `room` bytes and keeps the rest until the test drains it."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.written: list[bytes] = []
        self.unsent = 0
        self.limits: list[int | None] = []
        self.is_closed = False
        self.relay: Relay | None = None
        self.socket: Socket | None = None

    def write(self, data: bytes) -> None:
        assert not self.is_closed, "a closed transport of uvloop raises"
        self.written.append(data)
        self.unsent += max(len(data) - self.room, 0)
        self.room = max(self.room - len(data), 0)
        if self.unsent and self.relay is not None:
            self.relay.pause()

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.write(b"".join(pieces))

    def drain(self, room: int = 1 << 30) -> None:
        self.unsent, self.room = 0, room
        assert self.relay is not None
        self.relay.resume()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert not self.is_closed, "a closed transport of uvloop raises"
        self.limits.append(high)

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str) -> Socket | None:
        return self.socket if name == "socket" else None


class Bench:
    def __init__(
        self, *, room: int = 1 << 30, is_chunked: bool = False, takes_trailers: bool = False
    ) -> None:
        self.source = RecordedFlow()
        self.body = Stream(self.source, high=100, low=20)
        self.body.stall_s = 60.0
        self.transport = Transport(room)
        self.clock = FakeClock()
        self.relay = self.transport.relay = Relay(
            self.body,
            cast("asyncio.Transport", self.transport),
            self.clock,
            is_chunked=is_chunked,
            takes_trailers=takes_trailers,
        )
        self.running: asyncio.Task[None] | None = None

    async def start(self, head: bytes = b"head") -> None:
        self.running = asyncio.get_running_loop().create_task(self.relay.run(head))
        await asyncio.sleep(0)

    async def end(self) -> None:
        assert self.running is not None
        async with asyncio.timeout(PATIENCE_S):
            await self.running

    @property
    def text(self) -> bytes:
        return b"".join(self.transport.written)


async def test_head_and_first_bytes_leave_together_and_each_piece_at_once() -> None:
    bench = Bench()
    bench.body.feed(b"one")
    await bench.start()
    assert bench.transport.written == [b"headone"]
    bench.body.feed(b"two")
    assert bench.transport.written == [b"headone", b"two"]
    bench.body.end()
    await bench.end()
    assert (bench.body.is_complete, bench.body.delivered) == (True, 6)
    assert bench.transport.limits == [0, None]


async def test_chunks_and_trailers() -> None:
    bench = Bench(is_chunked=True, takes_trailers=True)
    await bench.start()
    bench.body.feed(b"x" * 20_000)
    bench.body.feed(b"yz")
    bench.body.end(((b"X-Sum", b"1"),))
    await bench.end()
    assert bench.text == b"head4e20\r\n" + b"x" * 20_000 + b"\r\n2\r\nyz\r\n0\r\nX-Sum: 1\r\n\r\n"


async def test_a_chunk_that_is_framed_already_passes_as_it_is() -> None:
    bench = Bench(is_chunked=True)
    await bench.start()
    chunk = b"2\r\nab\r\n"
    bench.body.feed_chunk(b"ab", chunk)
    assert bench.transport.written[-1] is chunk
    assert bench.body.delivered == 2
    bench.body.end()
    await bench.end()
    assert bench.text == b"head2\r\nab\r\n0\r\n\r\n"


async def test_without_framing_of_its_own_an_answer_gets_none_of_the_backends() -> None:
    bench = Bench()
    await bench.start()
    bench.body.feed_chunk(b"ab", b"2\r\nab\r\n")
    assert bench.text == b"headab"


async def test_chunks_that_have_to_wait_are_framed_anew() -> None:
    bench = Bench(is_chunked=True, room=4)
    await bench.start()
    for data in (b"ab", b"cd", b"ef"):
        bench.body.feed_chunk(data, b"2\r\n%b\r\n" % data)
    assert (bench.body.buffered, bench.body.delivered) == (4, 2)
    bench.transport.drain()
    bench.body.feed_chunk(b"gh", b"2\r\ngh\r\n")
    assert bench.text == b"head2\r\nab\r\n4\r\ncdef\r\n2\r\ngh\r\n"


async def test_a_chunk_is_for_nobody_once_the_client_has_gone() -> None:
    bench = Bench(is_chunked=True)
    await bench.start()
    bench.transport.is_closed = True
    bench.body.feed_chunk(b"ab", b"2\r\nab\r\n")
    assert bench.text == b"head"
    bench.body.abandon()
    bench.body.feed_chunk(b"ab", b"2\r\nab\r\n")
    assert bench.text == b"head"


async def test_trailers_are_kept_from_a_client_that_does_not_take_them() -> None:
    bench = Bench(is_chunked=True)
    await bench.start()
    bench.body.end(((b"X-Sum", b"1"),))
    await bench.end()
    assert bench.text == b"head0\r\n\r\n"


async def test_what_the_kernel_does_not_take_holds_the_body_and_then_the_source() -> None:
    bench = Bench(room=10)
    await bench.start()
    bench.body.feed(b"x" * 30)
    assert bench.body.waiting == 24
    for _ in range(6):
        bench.body.feed(b"y" * 20)
    assert bench.source.asked == ["pause"]
    assert bench.transport.written == [b"head", b"x" * 30]
    bench.transport.drain()
    assert bench.source.asked == ["pause", "resume"]
    assert bench.text == b"head" + b"x" * 30 + b"y" * 120
    assert bench.body.waiting == 0


async def test_the_end_waits_for_the_last_byte_to_leave() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"late")
    bench.body.end()
    await asyncio.sleep(0)
    assert bench.running is not None
    assert not bench.running.done()
    bench.transport.drain()
    await bench.end()
    assert bench.text == b"headlate"


async def test_a_last_chunk_that_does_not_fit_is_waited_for() -> None:
    bench = Bench(room=4, is_chunked=True)
    await bench.start()
    bench.body.end()
    await asyncio.sleep(0)
    assert bench.running is not None
    assert not bench.running.done()
    bench.transport.drain()
    await bench.end()


async def test_a_head_that_does_not_fit_holds_the_body() -> None:
    bench = Bench(room=2)
    await bench.start()
    bench.body.feed(b"x")
    assert bench.text == b"head"
    bench.transport.drain()
    bench.body.end()
    await bench.end()
    assert bench.text == b"headx"


async def test_an_error_comes_after_the_bytes_that_arrived() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"bytes")
    bench.body.feed(b"more")
    bench.body.fail(Reset())
    bench.transport.drain()
    with pytest.raises(Reset):
        await bench.end()
    assert bench.text == b"headbytesmore"
    assert not bench.body.is_complete


async def test_a_reader_that_takes_nothing_is_given_up_and_one_that_moves_is_not() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"x" * 100)
    for _ in range(20):
        bench.clock.advance(30.0)
        bench.transport.unsent -= 1
    assert bench.running is not None
    assert not bench.running.done()
    bench.clock.advance(90.0)
    with pytest.raises(ReaderStalled):
        await bench.end()
    assert not bench.clock.pending


async def test_no_timer_outlives_a_reader_that_caught_up() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"x" * 100)
    bench.transport.drain()
    bench.clock.advance(60.0)
    assert not bench.clock.pending
    bench.body.end()
    await bench.end()


async def test_a_timer_that_still_runs_is_withdrawn_at_the_end() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"x" * 100)
    bench.transport.drain()
    bench.body.end()
    await bench.end()
    assert not bench.clock.pending


async def test_nothing_is_written_to_a_client_that_has_just_gone() -> None:
    bench = Bench(is_chunked=True)
    await bench.start()
    bench.transport.is_closed = True
    bench.body.feed(b"x")
    bench.body.end()
    await bench.end()
    assert bench.text == b"head"


async def test_a_late_word_after_the_verdict_changes_nothing() -> None:
    bench = Bench(room=4)
    await bench.start()
    bench.body.feed(b"x" * 100)
    bench.clock.advance(90.0)
    bench.body.end()
    bench.transport.drain()
    bench.relay.finish(None)
    with pytest.raises(ReaderStalled):
        await bench.end()


async def test_chunks_for_a_slow_reader_follow_its_bandwidth() -> None:
    bench = Bench(room=4)
    bench.body.limit(10 << 20, 1 << 20)
    await bench.start()
    bench.body.feed(b"x" * 100_000)
    for _ in range(10):
        bench.body.feed(b"y" * 16_384)
    bench.clock.advance(1.0)  # 100 kB/s: the smallest chunks
    bench.transport.drain(room=0)
    assert len(bench.transport.written[-1]) == 16_384


async def test_a_fast_reader_may_have_more_in_the_kernel_until_it_is_slow() -> None:
    bench = Bench(room=4)
    bench.body.limit(10 << 20, 1 << 20)
    bench.transport.socket = kernel = Socket()
    await bench.start()
    assert kernel.bounds == [FOR_ALL]
    spans = [(0.001, []), (0.01, [FOR_THE_FAST]), (0.01, []), (1.0, []), (1.0, [FOR_ALL])]
    for span_s, bounds in spans:
        del kernel.bounds[:]
        bench.body.feed(b"x" * 3_000_000)
        bench.clock.advance(span_s)
        bench.transport.drain(room=4)
        assert kernel.bounds == bounds
