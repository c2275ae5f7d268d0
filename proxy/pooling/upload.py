"""Sending a request body that is still arriving.

Owned by one connection for one exchange. It is the body's `Sink`: what the client's read brought goes to
the backend within that read. When the kernel does not take everything, the body is held, and its watermarks
pause the client, until the backend has caught up. It ends when the body is sent or breaks off (`on_end`
gets the reason), or by `cancel`. It runs beside the answer, because a backend may answer before it has read
everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.kernel_buffers import bound_sending, report_waiting
from proxy.pooling.wire import encode_chunk, last_chunk

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.errors import ProxyError
    from proxy.exchange import Stream

__all__ = ("Upload",)


def _never() -> float:
    return math.inf


class Upload:
    """Passes `body` to `transport`: in chunks when its length is unknown, without framing when `is_raw`.

    `sent` counts the bytes that were taken from the body: then it cannot be sent again. `is_starved` says
    that the client, not the backend, is the one to wait for; `fed_at` is when it sent something last (inf
    without a clock).
    """

    __slots__ = ("_body", "_is_chunked", "_now", "_on_end", "_transport", "fed_at", "is_starved", "sent")

    def __init__(
        self,
        body: Stream,
        transport: asyncio.WriteTransport,
        on_end: Callable[[ProxyError | None], None],
        *,
        is_raw: bool = False,
        now: Callable[[], float] = _never,
    ) -> None:
        self._body = body
        self._transport = transport
        self._is_chunked = body.length is None and not is_raw
        self._on_end = on_end
        self._now = now
        self.fed_at = now()
        self.sent = 0
        self.is_starved = True

    def start(self) -> None:
        """Send what there is; `on_end` may be called from within."""
        bound_sending(self._transport)
        report_waiting(self._transport)
        if self._transport.get_write_buffer_size():
            self.pause()
        self._body.attach(self)

    # ------------------------------------------------------------- what the connection says
    def pause(self) -> None:
        """The kernel did not take everything."""
        self.is_starved = False
        self._body.hold(max(self._transport.get_write_buffer_size(), 1))

    def resume(self) -> None:
        """The backend has caught up."""
        self.is_starved = True
        self._body.go_on()

    def cancel(self) -> None:
        """Send nothing more. A body of which something was taken is let go: it cannot be sent again."""
        if self.sent:
            self._body.abandon()
        else:
            self._body.detach()

    # ------------------------------------------------------------- Sink of the body
    def write(self, data: bytes) -> None:
        """Send `data`; to nobody when the connection is about to say that it is lost."""
        self.fed_at = self._now()
        self.sent += len(data)
        if not self._transport.is_closing():
            self._transport.write(encode_chunk(data) if self._is_chunked else data)

    def finish(self, error: ProxyError | None) -> None:
        """The body is over."""
        body, transport = self._body, self._transport
        body.detach()
        if not transport.is_closing():
            if error is None and self._is_chunked:
                transport.write(last_chunk(body.trailers))
            transport.set_write_buffer_limits()
        if error is None:
            body.complete()
        self._on_end(error)
