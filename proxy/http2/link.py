"""One HTTP/2 connection on an asyncio transport: reads into a session, writes what the session has to say.

Owned by a listener's connection or by a channel, which subclass it and act on the events. It waits for
nothing by itself. Output is written once for each turn of the loop, however many streams produced some: the
first to call `wake` books the flush. Where nothing else is going on that could produce more, the subclass
calls `flush` instead and saves a lone call that turn. It ends with `connection_lost`, which wakes every
sender that waits for room; a session that is over is written out and closed.

Sending a body is coupled to the peer twice. The stream's window: a body is held until what was handed over
has left the session's queue. The socket: while the transport's buffer is above its high mark nothing is
flushed, and bodies are held. A peer that takes nothing at all for `write_stall_s` loses the stream, not the
connection. From the first large read on an `Intake` reads for the link, and what a read brings of bodies
leaves before the next one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from proxy.http2.errors import ErrorCode
from proxy.http2.intake import BULKY, Intake
from proxy.http2.relay import BodyRelay
from proxy.http2.session import Session
from proxy.http2.vectors import descriptor, write_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers, Stream
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.events import Event
    from proxy.http2.intake import ReadBuffer
    from proxy.http2.pulse import Pulse

__all__ = ("Link",)

S = TypeVar("S", bound=Session)

_WRITE_BUFFER = 256 << 10
_ALIVE = b"alive?  "


class Link(Generic[S]):
    """What a listener's connection and a channel have in common; `now` is the clock's.

    An `asyncio.Protocol`, though not by name: a compiled class has no interpreted base.

    `is_open` is true from `connection_made` until the transport is gone or told to close; `is_writing` while
    a flush is booked; `heard_at` is when the peer last sent anything.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        session: S,
        writer: BlockWriter,
        now: Callable[[], float],
        *,
        buffer: ReadBuffer,
        write_stall_s: float,
    ) -> None:
        self.session = session
        self.is_open = False
        self.writer = writer
        self.now = now
        self.heard_at = now()
        self._buffer = buffer
        self._reads_views = False
        self._fileno = -1
        self._write_stall_s = write_stall_s
        self._loop = asyncio.get_running_loop()
        self.is_writing = False
        self._is_paused = False
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._relays: dict[int, BodyRelay] = {}

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say our settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._fileno = descriptor(transport)
        self.is_open = True
        self.flush()

    def data_received(self, data: bytes) -> None:
        """A read: hand its events to the owner, book the flush of whatever they caused."""
        if len(data) >= BULKY and not self._reads_views:
            self._reads_views = True
            self._transport.set_protocol(Intake(self, self._buffer))
        self.heard_at = now = self.now()
        self._act(self.session.receive(data, now))

    def view_received(self, view: memoryview) -> None:
        """A large read: `view` is not referred to when this has returned, but for what nobody takes."""
        self.heard_at = now = self.now()
        self._act(self.session.receive(view, now))

    def _act(self, events: list[Event]) -> None:
        if events:
            self._handle(events)
        if self.session.is_over:
            self.hang_up()
        elif self.session.wants_to_send:
            self.wake()

    def eof_received(self) -> None:
        """The peer sends nothing more: the transport closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: nobody waits for room any more."""
        self.is_open = False
        for stream_id in (*self._waiting, *self._relays):
            self._release(stream_id)

    def pause_writing(self) -> None:
        """The peer's socket is full."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._is_paused = False
        self.wake()
        for stream_id in tuple(self._waiting):
            if not self.session.queued(stream_id):
                self._release(stream_id)
        for relay in tuple(self._relays.values()):
            relay.resume()

    # ------------------------------------------------------------- for subclasses
    def _handle(self, events: list[Event]) -> None:
        """Act on what a read has brought."""
        raise NotImplementedError

    def wake(self) -> None:
        """Book the flush; to be called after anything was sent on the session."""
        if not self.is_writing:
            self.is_writing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is, unless the socket is full."""
        self.is_writing = False
        if self.is_open and not self._is_paused and self.session.wants_to_send:
            pieces = self.session.pieces_to_send()
            if len(pieces) == 1:
                self._transport.write(pieces[0])
            else:
                write_pieces(self._transport, self._fileno, pieces)

    def feel(self, pulse: Pulse) -> float | None:
        """Ask a silent peer for a sign of life; the instant at which to look again, None when it is gone."""
        verdict = pulse.look(self.now(), self.heard_at)
        if verdict == "gone":
            return None
        if verdict == "ask":
            self.session.ping(_ALIVE)
            self.wake()
        return pulse.due_at

    def hang_up(self) -> None:
        """Write what is left, then close."""
        if self.is_open:
            self.is_open = False
            write_pieces(self._transport, self._fileno, self.session.pieces_to_send())
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.is_open:
            self.is_open = False
            self._transport.abort()

    async def send_body(self, stream_id: int, body: Stream) -> bool:
        """Relay `body` to its end, trailers included; False when the stream was gone before.

        Raises what the body raises. Whoever calls sees to it that `body` is abandoned when it was not read
        to its end.
        """
        self._relays[stream_id] = relay = BodyRelay(self, stream_id, body, self._write_stall_s)
        try:
            return await relay.run()
        finally:
            del self._relays[stream_id]

    # ------------------------------------------------------------- for relays
    @property
    def transport(self) -> asyncio.WriteTransport:
        """Where the flushes go."""
        return self._transport

    @property
    def is_full(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._is_paused

    def send_trailers(self, stream_id: int, trailers: Headers) -> bool:
        """End the stream with these fields; False when it is gone."""
        self.wake()
        return self.session.send_trailers(stream_id, self.writer.trailers(trailers))

    def stalled(self, body: Stream) -> None:
        """The peer took nothing of `body` for too long: nobody reads it any more."""
        body.abandon()

    async def room(self, stream_id: int) -> bool:
        """Wait until the peer has taken what was sent on the stream; False when it is gone or stalls."""
        session = self.session
        queued = session.queued(stream_id)
        while (queued or self._is_paused) and self.is_open and session.is_live(stream_id):
            self._waiting[stream_id] = waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(self._write_stall_s):
                    await waiter
            except TimeoutError:
                if session.queued(stream_id) >= queued:
                    session.reset(stream_id, ErrorCode.CANCEL)
                    self.wake()
                    return False
            finally:
                self._waiting.pop(stream_id, None)
            queued = session.queued(stream_id)
        return self.is_open and session.is_live(stream_id)

    def _release(self, stream_id: int) -> None:
        """Wake the sender that waits for room on the stream, if one does."""
        relay = self._relays.get(stream_id)
        if relay is not None:
            relay.resume()
        waiter = self._waiting.get(stream_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
