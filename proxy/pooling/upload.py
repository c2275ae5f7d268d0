"""Sending a request body that is still arriving.

Owned by one connection for one exchange. Its task waits for the client's next bytes and, when the backend is
slow, for the connection's write buffer to drain; it ends when the body is sent, when the body breaks off
(then `on_end` gets the reason), or by `cancel`. It runs beside the answer, because a backend may answer
before it has read everything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.errors import ProxyError
from proxy.pooling.wire import encode_chunk, last_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Stream

__all__ = ("Upload",)


class Upload:
    """Pumps `body` into `transport`: in chunks when its length is unknown, without framing when `is_raw`.

    `has_started` says that bytes of the body were taken, so that it cannot be sent again.
    """

    __slots__ = ("_body", "_drained", "_is_raw", "_task", "_transport", "has_started")

    def __init__(
        self,
        body: Stream,
        transport: asyncio.WriteTransport,
        on_end: Callable[[ProxyError | None], None],
        *,
        is_raw: bool = False,
    ) -> None:
        self._body = body
        self._transport = transport
        self._is_raw = is_raw
        self._drained: asyncio.Future[None] | None = None
        self.has_started = False
        self._task = asyncio.get_running_loop().create_task(self._run(on_end))

    @property
    def is_starved(self) -> bool:
        """True while the client, not the backend, is the one to wait for."""
        return self._drained is None

    def pause(self) -> None:
        """The connection's write buffer is full."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """The connection's write buffer has drained."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def cancel(self) -> None:
        """Send nothing more. A body of which something was taken is let go: it cannot be sent again."""
        self._task.cancel()
        if self.has_started:
            self._body.abandon()

    async def _run(self, on_end: Callable[[ProxyError | None], None]) -> None:
        try:
            await self._pump()
        except ProxyError as error:
            on_end(error)
        else:
            on_end(None)

    async def _pump(self) -> None:
        body, transport = self._body, self._transport
        is_chunked = body.length is None and not self._is_raw
        while data := await body.read():
            self.has_started = True
            transport.write(encode_chunk(data) if is_chunked else data)
            if self._drained is not None:
                await self._drained
        if is_chunked:
            transport.write(last_chunk(body.trailers))
