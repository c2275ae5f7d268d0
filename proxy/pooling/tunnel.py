"""What a connection becomes after ``101 Switching Protocols``: two byte streams and no HTTP.

It replaces the connection as the transport's protocol. The client's bytes arrive in the call's body and are
sent as they are; the backend's bytes leave in `stream`. Either side may close its half; the tunnel ends, and
tells `on_end`, when both have, when either breaks, or when both were silent for too long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ProxyError, Reset
from proxy.exchange import Stream
from proxy.pooling.upload import Upload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.timing import Clock

__all__ = ("Tunnel",)


class Tunnel:
    """Carries raw bytes both ways."""

    __slots__ = ("_heard_at", "_is_over", "_now", "_on_end", "_sent", "_transport", "_upload", "stream")

    def __init__(
        self, transport: asyncio.Transport, body: Stream, clock: Clock, on_end: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._now = clock.now
        self._on_end = on_end
        self._is_over = False
        self._heard_at = clock.now()
        self._sent = 0
        self.stream = Stream(self)
        self._upload: Upload | None = Upload(body, transport, self._client_ended, is_raw=True)
        transport.set_protocol(self)  # type: ignore[arg-type]  # it has the methods, if not the base class
        self._upload.start()

    def overdue_at(self, idle_s: float) -> float:
        """The instant at which both sides will have been silent for `idle_s`.

        What the client sends is only noticed here, so it may be up to twice that.
        """
        if self._upload is not None and self._upload.sent != self._sent:
            self._sent = self._upload.sent
            self._heard()
        return self._heard_at + idle_s

    def break_off(self, error: ProxyError) -> None:
        """End both directions now."""
        if self._is_over:
            return
        self._is_over = True
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()
        self.stream.fail(error)
        self._transport.abort()
        self._on_end()

    # ------------------------------------------------------------- the backend's half
    def data_received(self, data: bytes) -> None:
        """Bytes for the client."""
        self._heard()
        self.stream.feed(data)

    def eof_received(self) -> bool:
        """The backend has said its last byte; the client may still talk."""
        self.stream.end()
        if self._upload is None:
            self.break_off(Reset())
        return self._upload is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.break_off(Reset(f"the backend closed the tunnel{f': {exc}' if exc else ''}"))

    # ------------------------------------------------------------- the client's half
    def pause_writing(self) -> None:
        """The backend reads slowly: hold what the client sends."""
        if self._upload is not None:
            self._upload.pause()
            self._heard()

    def resume_writing(self) -> None:
        """The backend has caught up."""
        if self._upload is not None:
            self._upload.resume()
            self._heard()

    def _client_ended(self, error: ProxyError | None) -> None:
        self._upload = None
        if error is not None or self.stream.is_ended:
            self.break_off(error or Reset())
        elif self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS cannot half-close
            self._transport.close()

    # ------------------------------------------------------------- Flow of `stream`
    def pause(self) -> None:
        """The client reads slowly."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """The client has caught up."""
        self._heard()
        self._transport.resume_reading()

    def abandon(self) -> None:
        """The client left."""
        self.break_off(Reset())

    def _heard(self) -> None:
        self._heard_at = self._now()
