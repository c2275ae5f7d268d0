"""Bodies in transit: one producer, one consumer, and watermarks between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.inflow import Inflow

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from proxy.inflow import ChunkSink, PromptSink, Sink

__all__ = ("Stream",)


class Stream(Inflow):
    """A body in transit: one producer feeds it, one consumer takes it, and neither can outrun the other.

    The consumer awaits `read` until it returns ``b""``; or it attaches a `Sink`, which gets every piece
    within the producer's own call (no task wakes up, no piece waits for a turn of the loop), says `hold` and
    `go_on`, and `complete` at the end. Either kind calls `abandon` when it loses interest, and says why when
    it was not the client who left. What the consumer cannot take waits here.
    """

    __slots__ = ()

    async def read(self) -> bytes:
        """All bytes that are there, at least one; ``b""`` at the end.

        Raises the producer's `ProxyError` when the body broke off.
        """
        while not self._reservoir.size:
            if self._ended:
                if self._error is not None:
                    self._close()
                    raise self._error
                self.complete()
                return b""
            await self._news()
        return self._take()

    def read_nowait(self) -> bytes:
        """All bytes that are there, possibly none."""
        return self._take() if self._reservoir.size else b""

    def unread(self, data: bytes) -> None:
        """Put back what was read last, for another reader to start with."""
        self._reservoir.put_back(data)
        self.delivered -= len(data)

    async def gather(self, limit: int) -> bytes | None:
        """The whole body at once; None when it has more than `limit` bytes or trailers, breaks off, or memory
        is tight. Nothing is lost then: it can be read as before.

        What was gathered stays on the ledger until `abandon`.
        """
        if self.length is not None and self.length > limit:
            return None
        usual, self._high = self._high, limit
        try:
            if self._paused and self.buffered <= limit:
                self._resume()
            while not self._ended:
                if self._paused:
                    return None
                await self._news()
        finally:
            self._high = usual
        if self._error is not None or self.trailers or self.buffered > limit:
            return None
        data = self.read_nowait()
        self._reservoir.hold(len(data))
        self.complete()
        return data

    def attach(self, sink: Sink) -> None:
        """Hand `sink` what waits, then each piece as it comes; nothing yet if it said `hold` already."""
        self._sink = sink
        if not self._reservoir.held:
            self.go_on()

    def attach_prompt(self, sink: PromptSink) -> None:
        """As `attach`, for a sink that takes what it is given out of the producer's memory."""
        self._prompt = sink
        self.attach(sink)

    def attach_chunks(self, sink: ChunkSink) -> None:
        """As `attach`, for a sink that frames each piece as a chunk: one that is framed so comes as it is."""
        self._chunk_sink = sink
        self.attach(sink)

    def detach(self) -> None:
        """Hand the sink nothing more; whoever comes next finds what it has not taken."""
        self._sink = self._open_sink = self._chunk_sink = self._prompt = None
        self._reservoir.hold(0)

    def hold(self, size: int) -> None:
        """The sink still has `size` bytes to pass on: give it no more until it says `go_on`."""
        self._open_sink = None
        self._reservoir.hold(size)

    def go_on(self) -> None:
        """The sink has passed on what it had: hand it what waits, `chunk` bytes at a time, until it holds."""
        sink = self._open_sink = self._sink
        self._reservoir.hold(0)
        waiting = self._reservoir
        while waiting.size and sink is not None and self._open_sink is sink:
            data = waiting.take_some(self.chunk)
            self._taken(len(data))
            sink.write(data)
        if self._ended and not waiting.size and self._open_sink is not None:
            self._open_sink.finish(self._error)

    def break_off(self, error: ProxyError) -> None:
        """Fail at once: what the consumer has not taken yet is dropped, even while it is held up."""
        if self._ended or self._is_abandoned:
            return
        if self._reservoir.size:
            self._reservoir.take()
        self._open_sink = self._sink
        self.fail(error)

    def complete(self) -> None:
        """The consumer has taken everything up to the end."""
        self.is_complete = True
        self._close()

    def abandon(self, why: ProxyError | None = None) -> None:
        """The consumer leaves, of itself when there is a `why`; idempotent.

        An unfinished producer is told to free its source.
        """
        waiting = self._reservoir
        if self.is_whole and not waiting.held:
            self.is_complete = True  # a reader that saw the end come need not read it
        if waiting.size:
            waiting.take()
        if not self.is_complete:
            self.delivered = max(self.delivered - waiting.held, 0)
        waiting.hold(0)
        self._sink = self._open_sink = self._chunk_sink = self._prompt = None
        if not self._closed:
            self.left_because = why
        self._is_abandoned = True
        flow, self._flow = self._flow, None
        if flow is not None and not self._ended:
            flow.abandon()
        self._close()

    # ------------------------------------------------------------- internals
    def _take(self) -> bytes:
        data = self._reservoir.take()
        self._taken(len(data))
        return data

    async def _news(self) -> None:
        """Until the producer says something."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
