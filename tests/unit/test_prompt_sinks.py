"""Bytes that pass a stream without a copy, and those that have to be copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Stream

if TYPE_CHECKING:
    from proxy.errors import ProxyError


class Prompt:
    """Takes `most` pieces, then holds."""

    def __init__(self, body: Stream, most: int = 10) -> None:
        self.taken: list[bytes | memoryview] = []
        self.flushes = 0
        self._body = body
        self._most = most

    def write(self, data: bytes | memoryview) -> None:
        self.taken.append(data)
        if len(self.taken) == self._most:
            self._body.hold(1)

    def write_parts(self, parts: list[bytes | memoryview], size: int) -> bool:
        if len(self.taken) + len(parts) > self._most:
            return False
        assert size == sum(map(len, parts))
        self.taken += parts
        return True

    def flush(self) -> None:
        self.flushes += 1

    def finish(self, error: ProxyError | None) -> None:
        """Not of interest."""


class Sizes:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def passed(self, data: bytes | memoryview) -> None:
        self.sizes.append(len(data))

    def paused(self) -> None:
        """Not of interest."""

    def resumed(self) -> None:
        """Not of interest."""

    def closed(self) -> None:
        """Not of interest."""


def parts(memory: bytearray) -> list[bytes | memoryview]:
    return [memoryview(memory)[:3], memoryview(memory)[3:]]


def test_a_prompt_sink_gets_the_producer_s_memory() -> None:
    body, memory = Stream(None), bytearray(b"onetwo")
    sink, watch = Prompt(body), Sizes()
    body.observe(watch)
    body.attach_prompt(sink)
    body.feed_parts(parts(memory))
    body.flush()
    assert [piece.obj is memory for piece in sink.taken if isinstance(piece, memoryview)] == [True, True]
    assert (body.delivered, watch.sizes, sink.flushes) == (6, [3, 3], 1)


def test_what_a_sink_cannot_take_is_copied() -> None:
    body, memory = Stream(None), bytearray(b"onetwo")
    sink = Prompt(body, most=1)
    body.attach_prompt(sink)
    body.feed_parts(parts(memory))
    body.feed_parts(parts(memory))
    sink.taken.clear()
    memory.clear()  # BufferError if anything referred to it
    assert (body.delivered, body.buffered) == (3, 9)
    body.go_on()
    assert b"".join(sink.taken) == b"twoonetwo"


async def test_whoever_is_not_prompt_gets_copies() -> None:
    body, memory = Stream(None), bytearray(b"onetwo")
    body.feed_parts(parts(memory))
    body.flush()
    memory.clear()
    assert await body.read() == b"onetwo"


def test_nobody_gets_anything_after_the_sink_has_left() -> None:
    body = Stream(None)
    sink = Prompt(body)
    body.attach_prompt(sink)
    body.detach()
    body.feed_parts([b"one"])
    body.flush()
    assert (sink.taken, sink.flushes, body.buffered) == ([], 0, 3)
    body.attach_prompt(sink)
    body.abandon()
    body.feed_parts([b"two"])
    body.flush()
    assert (sink.taken, sink.flushes) == ([b"one"], 0)
