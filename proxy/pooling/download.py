"""Handing an answer to its consumer while it still arrives.

Made by a connection for an answer that is large, of unknown length or slow; it is the `Flow` of the reply's
stream. It waits for nothing: the connection pumps it after each read. A slow consumer pauses the transport. A
consumer that leaves ends the exchange, unless so little of the answer is still to come that waiting a moment
for it is cheaper than a new connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.exchange import Stream
from proxy.kernel_buffers import bound_receiving

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.errors import ProxyError
    from proxy.pooling.reply_reader import ReplyReader
    from proxy.timing import Clock

__all__ = ("Download",)

_LITTLE: Final = 64 * 1024
_LEAVE_S: Final = 0.05


class Download:
    """Feeds `stream` from `reader`.

    `on_heard` runs when the backend's silence counts from now, `on_abandoned` when the rest of the answer is
    not wanted. `leave_at` is when an abandoned answer must be over; inf while somebody reads.
    """

    __slots__ = (
        "_now",
        "_on_abandoned",
        "_on_heard",
        "_reader",
        "_transport",
        "is_paused",
        "leave_at",
        "stream",
    )

    def __init__(
        self,
        reader: ReplyReader,
        transport: asyncio.ReadTransport,
        clock: Clock,
        *,
        on_heard: Callable[[], None],
        on_abandoned: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._transport = transport
        self._now = clock.now
        self._on_heard = on_heard
        self._on_abandoned = on_abandoned
        self.is_paused = False
        self.leave_at = math.inf
        bound_receiving(transport)
        self.stream = Stream(self, reader.head.length if reader.head is not None else None)

    def pump(self) -> None:
        """Pass on what the reader has."""
        reader = self._reader
        chunks = reader.chunks
        if chunks:  # what one read brought leaves in one write
            self.stream.feed(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            chunks.clear()
        if reader.is_complete:
            self.stream.end(reader.trailers)
            if self.is_paused:
                self.is_paused = False
                self._transport.resume_reading()

    def fail(self, error: ProxyError) -> None:
        """The answer broke off."""
        self.stream.fail(error)

    # ------------------------------------------------------------- Flow
    def pause(self) -> None:
        """The consumer is slow."""
        self.is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """The consumer has caught up."""
        self.is_paused = False
        self._transport.resume_reading()
        self._on_heard()

    def abandon(self) -> None:
        """The consumer left."""
        head = self._reader.head
        if head is None or head.length is None or head.length - self._reader.received > _LITTLE:
            self._on_abandoned()
            return
        self.leave_at = self._now() + _LEAVE_S
        if self.is_paused:
            self.is_paused = False
            self._transport.resume_reading()
        self._on_heard()
