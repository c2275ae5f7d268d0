"""Passing a body on to an HTTP/1.1 client, at the client's pace.

Owned by the client's connection, for one answer. It is a `Sink`: each piece goes to the transport within
the read that brought it, so an event costs no task switch and never waits for a turn of the loop. A chunk
that the backend has framed just as it would be framed here is written as the bytes that were read. The
transport is set to report as soon as the kernel does not take everything (`pause`); from then on pieces
wait in the body's `Stream`, whose watermarks pause the backend, until the kernel has taken all (`resume`).

`run` waits for the body's end and for its last byte to reach the kernel. It ends with it, with the body's
own error, with `ReaderStalled`, or by being cancelled when the client has gone. A timer exists only while the
reader is being waited for.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from proxy.errors import ReaderStalled
from proxy.kernel_buffers import FOR_ALL, FOR_THE_FAST, bound_sending, report_waiting, unacknowledged
from proxy.stall import StallJudge
from proxy.streaming.chunking import ChunkSizer

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from proxy.exchange import Headers, Stream
    from proxy.timing import Clock, Timer

__all__ = ("Relay",)

# Above this size the copy that joins a chunk and its frame costs more than a gathering write.
_ONE_BUFFER: Final = 16 * 1024
_FAST: Final = 200e6  # bytes per second; such a reader may have more in the kernel


class Relay:
    """Passes `body` on to `transport`, in chunks where `is_chunked`, else as it is.

    A reader that takes nothing for `stall_s` seconds, or for what `body` says if that is less, is given up.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_done",
        "_held",
        "_is_chunked",
        "_is_fast",
        "_is_finished",
        "_judge",
        "_sizer",
        "_stall_s",
        "_takes_trailers",
        "_timer",
        "_transport",
    )

    def __init__(
        self,
        body: Stream,
        transport: asyncio.Transport,
        clock: Clock,
        *,
        is_chunked: bool = False,
        takes_trailers: bool = False,
        stall_s: float = math.inf,
    ) -> None:
        self._body = body
        self._transport = transport
        self._clock = clock
        self._is_chunked = is_chunked
        self._takes_trailers = takes_trailers
        self._stall_s = min(stall_s, body.stall_s)
        self._is_fast = False
        self._is_finished = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sizer: ChunkSizer | None = None
        self._judge: StallJudge | None = None
        self._timer: Timer | None = None
        self._held = 0

    async def run(self, head: bytes) -> None:
        """Write `head`, then the body as it comes.

        Raises the `ProxyError` that broke the body off, or `ReaderStalled`.
        """
        body, transport = self._body, self._transport
        bound_sending(transport)
        report_waiting(transport)
        try:
            first = body.read_nowait()
            transport.write(head + (_chunk(first) if self._is_chunked and first else first))
            if transport.get_write_buffer_size() and not self._held:
                self.pause()
            if self._is_chunked:
                body.attach_chunks(self)
            else:
                body.attach(self)
            await self._done
            body.complete()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    # ------------------------------------------------------------- Sink of the body
    def write(self, data: bytes) -> None:
        """Pass `data` on; to nobody when the client has just gone (its connection is about to say so)."""
        transport = self._transport
        if transport.is_closing():
            return
        if not self._is_chunked:
            transport.write(data)
        elif len(data) <= _ONE_BUFFER:
            transport.write(_chunk(data))
        else:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    def write_chunk(self, chunk: bytes) -> None:
        """Pass on what needs no framing any more: nearly every token of a stream comes so."""
        transport = self._transport
        if not transport.is_closing():
            transport.write(chunk)

    def finish(self, error: ProxyError | None) -> None:
        """The body is over and all of it was written."""
        if self._done.done():
            return
        if error is not None:
            self._done.set_exception(error)
            return
        self._is_finished = True
        if self._is_chunked and not self._transport.is_closing():
            self._transport.write(_last_chunk(self._body.trailers if self._takes_trailers else ()))
        if not self._held:
            self._done.set_result(None)

    # ------------------------------------------------------------- what the transport says
    def pause(self) -> None:
        """The kernel did not take everything."""
        body = self._body
        self._held = max(self._transport.get_write_buffer_size(), 1)
        now = self._clock.now()
        body.hold(self._held)
        if self._sizer is None:
            self._sizer = ChunkSizer(body.chunk)
        self._sizer.waits(body.delivered - self._held, now)
        if self._timer is None and self._stall_s < math.inf:
            self._judge = StallJudge(self._stall_s)
            self._timer = self._clock.call_at(self._judge.next_look(now), self._look)

    def resume(self) -> None:
        """The kernel has taken everything that was held."""
        body, sizer = self._body, self._sizer
        if sizer is not None:
            sizer.caught_up(body.delivered, self._clock.now())
            body.chunk = sizer.size
            if self._is_fast != (sizer.bandwidth > _FAST):
                self._is_fast = not self._is_fast
                bound_sending(self._transport, FOR_THE_FAST if self._is_fast else FOR_ALL)
        self._held = 0
        if not self._is_finished:
            body.go_on()
        elif not self._done.done():
            self._done.set_result(None)

    def _look(self) -> None:
        self._timer = None
        judge = self._judge
        if not self._held or judge is None:
            return
        if not judge.has_stalled(self._body.delivered - unacknowledged(self._transport)):
            self._timer = self._clock.call_at(judge.next_look(self._clock.now()), self._look)
        elif not self._done.done():
            self._done.set_exception(ReaderStalled())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _last_chunk(trailers: Headers) -> bytes:
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in trailers])
