"""Handing an answer to its consumer while it still arrives.

Made by a connection for an answer that is large, of unknown length or slow; it is the `Flow` of the reply's
stream. It waits for nothing: the connection pumps it after each read. A slow consumer pauses the transport. A
consumer that leaves ends the exchange, unless so little of the answer is still to come that waiting a moment
for it is cheaper than a new connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, Protocol

from proxy.exchange import Stream
from proxy.kernel_buffers import bound_receiving

if TYPE_CHECKING:
    import asyncio

    from proxy.errors import ProxyError
    from proxy.pooling.reply_reader import ReplyReader
    from proxy.timing import Clock

__all__ = ("Download", "Receiver")

_LITTLE: Final = 64 * 1024
_LEAVE_S: Final = 0.05


class Receiver(Protocol):
    """The connection, as its download sees it."""

    def heard(self) -> None:
        """The backend's silence counts from now."""

    def held_up(self) -> None:
        """The consumer takes nothing more for the time being."""

    def close(self, why: Literal["abandoned"]) -> None:
        """The rest of the answer is not wanted."""


class Download:
    """Feeds `stream` from `reader`. `leave_at` is when an abandoned answer must be over; inf while it is
    read. `paused_at` is since when the consumer has taken nothing; inf while it keeps up."""

    __slots__ = ("_now", "_reader", "_receiver", "_transport", "leave_at", "paused_at", "stream")

    def __init__(
        self, reader: ReplyReader, transport: asyncio.ReadTransport, clock: Clock, receiver: Receiver
    ) -> None:
        self._reader = reader
        self._transport = transport
        self._now = clock.now
        self._receiver = receiver
        self.paused_at = math.inf
        self.leave_at = math.inf
        bound_receiving(transport)
        self.stream = Stream(self, reader.head.length if reader.head is not None else None)

    @property
    def is_paused(self) -> bool:
        """True while the consumer is slow."""
        return self.paused_at < math.inf

    def pump(self) -> None:
        """Pass on what the reader has."""
        reader = self._reader
        chunks = reader.chunks
        if chunks:  # what one read brought leaves in one write
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self.stream.feed(data)
        if reader.is_complete:
            self.stream.end(reader.trailers)
            if self.is_paused:
                self.paused_at = math.inf
                self._transport.resume_reading()

    def fail(self, error: ProxyError) -> None:
        """The answer broke off."""
        self.stream.fail(error)

    # ------------------------------------------------------------- Flow
    def pause(self) -> None:
        """The consumer is slow."""
        self.paused_at = self._now()
        self._transport.pause_reading()
        self._receiver.held_up()

    def resume(self) -> None:
        """The consumer has caught up."""
        self.paused_at = math.inf
        self._transport.resume_reading()
        self._receiver.heard()

    def abandon(self) -> None:
        """The consumer left."""
        missing = self._reader.missing
        if missing is None or missing > _LITTLE:
            self._receiver.close("abandoned")
            return
        self.leave_at = self._now() + _LEAVE_S
        if self.is_paused:
            self.paused_at = math.inf
            self._transport.resume_reading()
        self._receiver.heard()
