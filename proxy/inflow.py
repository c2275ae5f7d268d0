"""The producing end of a body in transit: what came, what waits, and when the producer must.

A body has two ends in two rooms: a connection that produces it and one that consumes it. `Inflow` is what
the first may touch, and what both share; `proxy.transit.Stream` adds the second. Its owner is whoever
produces; it waits for nothing and ends when the consumer has taken the end or left.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from proxy.reservoir import Reservoir

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.errors import ProxyError
    from proxy.reservoir import Ledger

__all__ = ("ChunkSink", "Flow", "Headers", "Inflow", "PromptSink", "Sink", "Watch")

_CHUNK: Final = 64 * 1024

Headers = tuple[tuple[bytes, bytes], ...]
"""(name, value) pairs, end-to-end fields only, in arrival order, case kept, duplicates kept."""


class Flow(Protocol):
    """The producing end of a `Stream`: what its consumer may ask of it."""

    def pause(self) -> None:
        """Produce nothing more for now: the consumer is slow."""

    def resume(self) -> None:
        """Go on producing."""

    def abandon(self) -> None:
        """Nobody reads any more: free the source."""


class Sink(Protocol):
    """The consuming end of a `Stream` that takes bytes the moment they come, instead of reading them."""

    def write(self, data: bytes) -> None:
        """Take `data`; a sink that can take no more calls the stream's `hold` from within."""

    def finish(self, error: ProxyError | None) -> None:
        """All bytes were written: the body is whole, or it broke off with `error`."""


class PromptSink(Sink, Protocol):
    """A `Sink` that keeps nothing of what it is given beyond `flush`, but for copies."""

    def write(self, data: bytes | memoryview) -> None:
        """As `Sink.write`."""

    def write_parts(self, parts: list[bytes | memoryview], size: int) -> bool:
        """Take `parts`, `size` bytes in all; False, and nothing has happened, where `write` might hold."""

    def flush(self) -> None:
        """The producer has no more for now; its memory is used again once this has returned."""


class ChunkSink(Sink, Protocol):
    """A sink that writes HTTP/1.1 itself, and so has a use for chunks that are framed already."""

    def write_chunk(self, chunk: bytes) -> None:
        """Take one whole chunk, framing included, instead of its data."""


class Watch(Protocol):
    """Whoever observes a `Stream`; it sees each event as it happens and changes nothing."""

    def passed(self, data: bytes | memoryview) -> None:
        """The producer fed `data`; a view of it is not to be kept."""

    def paused(self) -> None:
        """The producer was told to wait."""

    def resumed(self) -> None:
        """The producer was told to go on."""

    def closed(self) -> None:
        """The consumer is done, one way or the other."""


def _in_turn(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


class Inflow:
    """What a producer says of a body: `feed`, then exactly one of `end` and `fail`.

    Above `high` waiting bytes, those that the consumer holds included, the producer is paused; once at most
    `low` are left to be taken it is resumed. With a `ledger` the bytes count there, and a tight ledger pauses
    the producer earlier.

    `length` is the declared number of bytes, or None when only the end will tell; `delivered` counts what
    the consumer took. `trailers` is complete once the end was seen. `has_last_word` says that a body which
    breaks off ends with words for its reader: they are to reach it. `stall_s` is how long the consumer's
    own reader may take nothing before it is given up; `chunk` is how many waiting bytes are handed over at
    once to begin with.
    """

    __slots__ = (
        "_chunk_sink",
        "_closed",
        "_ended",
        "_error",
        "_flow",
        "_high",
        "_is_abandoned",
        "_low",
        "_on_close",
        "_open_sink",
        "_paused",
        "_prompt",
        "_reservoir",
        "_sink",
        "_waiter",
        "_watch",
        "chunk",
        "delivered",
        "has_last_word",
        "is_complete",
        "left_because",
        "length",
        "stall_s",
        "trailers",
    )

    def __init__(
        self, flow: Flow | None, length: int | None = None, *, high: int = 256 * 1024, low: int = 64 * 1024
    ) -> None:
        # First what each token of a stream needs: compiled, it lies together in this order, and one of a
        # thousand streams is not in the processor's cache.
        self._chunk_sink: ChunkSink | None = None  # the sink, if it takes chunks
        self._open_sink: Sink | None = None  # the sink, while it takes more
        self._watch: Watch | None = None
        self.delivered = 0
        self.length = length
        self.trailers: Headers = ()
        self.is_complete = False
        self.has_last_word = False
        self.left_because: ProxyError | None = None
        self.stall_s = math.inf
        self.chunk = _CHUNK
        self._flow = flow
        self._high = high
        self._low = low
        self._reservoir = Reservoir()
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._prompt: PromptSink | None = None  # the sink, if it is one
        self._ended = False
        self._is_abandoned = False
        self._closed = False
        self._paused = False
        self._error: ProxyError | None = None
        self._on_close: Callable[[], None] | None = None

    # ------------------------------------------------------------- producer
    def feed(self, data: bytes) -> None:
        """Add bytes; pauses the producer's `Flow` above the high watermark."""
        if self._closed:
            return
        if self._watch is not None:
            self._watch.passed(data)
        sink = self._open_sink
        if sink is not None:
            self.delivered += len(data)
            sink.write(data)
            return
        waiting = self._reservoir
        waiting.add(data)
        if (
            not self._paused
            and self._flow is not None
            and (waiting.size + waiting.held > self._high or waiting.is_tight)
        ):
            self._pause(self._flow)
        self._wake()

    def feed_parts(self, parts: list[bytes | memoryview]) -> None:
        """As `feed`, for what may lie in the producer's memory: only a `PromptSink` gets it uncopied.

        The producer says `flush` before it uses its memory again.
        """
        prompt = self._prompt
        if prompt is None or prompt is not self._open_sink:
            self.feed(b"".join(parts))
            return
        size = sum(map(len, parts))
        if prompt.write_parts(parts, size):
            self.delivered += size
            if self._watch is not None:
                for part in parts:
                    self._watch.passed(part)
            return
        for part in parts:
            if prompt is not self._open_sink:
                self.feed(bytes(part))
                continue
            if self._watch is not None:
                self._watch.passed(part)
            self.delivered += len(part)
            prompt.write(part)

    def flush(self) -> None:
        """All that the producer has for now was fed."""
        if self._prompt is not None:
            self._prompt.flush()

    def feed_chunk(self, data: bytes, chunk: bytes) -> None:
        """Add `data`, which came as `chunk`: framed just as this proxy would frame it."""
        sink = self._chunk_sink
        if sink is None or self._open_sink is not sink:
            self.feed(data)
            return
        if self._watch is not None:
            self._watch.passed(data)
        self.delivered += len(data)
        sink.write_chunk(chunk)

    def end(self, trailers: Headers = ()) -> None:
        """The body is whole."""
        self.trailers = trailers
        self._end()

    def fail(self, error: ProxyError) -> None:
        """The body will never be whole; the consumer gets `error` after the bytes that did arrive."""
        if self._ended or self._is_abandoned:
            return
        self._error = error
        self._end()

    def account(self, ledger: Ledger) -> None:
        """Count this body's bytes in `ledger` from now on."""
        if self._reservoir.ledger is None and not self._closed:
            self._reservoir.open(ledger)

    def limit(self, high: int, low: int) -> None:
        """Pause the producer above `high` waiting bytes, resume it at or below `low`."""
        self._high = high
        self._low = low

    def observe(self, watch: Watch) -> None:
        """Tell `watch` what waits and what happens from now on; `closed` comes exactly once."""
        for piece in self._reservoir.pieces:
            watch.passed(piece)
        if self._closed:
            watch.closed()
        else:
            self._watch = watch

    # ------------------------------------------------------------- state
    @property
    def is_ended(self) -> bool:
        """True once the producer has said its last word (bytes may still be waiting)."""
        return self._ended

    @property
    def is_whole(self) -> bool:
        """True when the end has come, cleanly, and every byte has been taken."""
        return self._ended and self._error is None and not self._reservoir.size

    @property
    def is_paused(self) -> bool:
        """True while the producer is told to wait."""
        return self._paused

    @property
    def buffered(self) -> int:
        """Bytes that wait for the consumer."""
        return self._reservoir.size

    @property
    def waiting(self) -> int:
        """Bytes in memory: those, and what the consumer holds for a reader that is slow."""
        return self._reservoir.size + self._reservoir.held

    @property
    def error(self) -> ProxyError | None:
        """Why the producer broke off, if it did."""
        return self._error

    def on_close(self, callback: Callable[[], None]) -> None:
        """Run `callback` once, when the consumer has taken the end or left; several run in order."""
        if self._closed:
            callback()
        elif self._on_close is None:
            self._on_close = callback
        else:
            self._on_close = partial(_in_turn, self._on_close, callback)

    # ------------------------------------------------------------- internals
    def _end(self) -> None:
        self._ended = True
        self._flow = None
        if self._open_sink is not None:
            self._open_sink.finish(self._error)
        self._wake()

    def _taken(self, size: int) -> None:
        self.delivered += size
        if self._paused and self._reservoir.size <= self._low:
            self._resume()

    def _pause(self, flow: Flow) -> None:
        self._paused = True
        if self._watch is not None:
            self._watch.paused()
        flow.pause()

    def _resume(self) -> None:
        self._paused = False
        if self._watch is not None:
            self._watch.resumed()
        if self._flow is not None:
            self._flow.resume()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.closed()
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback()
