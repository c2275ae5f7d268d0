"""The HTTP/2 listener: with prior knowledge (h2c) or, where a context is given, by TLS and ALPN.

The lifecycle owns it; it owns its connections. It waits for clients; `drain` ends when the last connection
has closed behind its last answer, `stop` aborts what is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.http2.blocks import BlockWriter
from proxy.http2.limits import Limits
from proxy.ingress.http2_link import ClientLink

if TYPE_CHECKING:
    import ssl

    from proxy.config.addresses import Address
    from proxy.ingress.http import Serve
    from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy
    from proxy.timing import Clock

__all__ = ("Http2Server", "session_limits")

_STREAMS = 256
_FRAME = 64 << 10
_STREAM_WINDOW = 256 << 10
_CONNECTION_WINDOW = 16 << 20
_BACKLOG = 4096


def session_limits(limits: LimitPolicy) -> Limits:
    """What one connection may hold, from what the operator allows."""
    return Limits(
        streams=min(_STREAMS, limits.inflight),
        frame_size=_FRAME,
        header_list=limits.header_bytes,
        stream_window=_STREAM_WINDOW,
        connection_window=_CONNECTION_WINDOW,
    )


class Http2Server:
    """Accepts client connections; a component of the lifecycle (start, drain, stop).

    `address` says where it listens once it has started. `tls` must offer ``h2`` by ALPN.
    """

    def __init__(
        self,
        pipeline: Serve,
        place: Address,
        limits: LimitPolicy,
        timeouts: ServerTimeoutPolicy,
        clock: Clock,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.limits = limits
        self.timeouts = timeouts
        self.clock = clock
        self.session_limits = session_limits(limits)
        self.writer = BlockWriter()
        self.is_draining = False
        self.address = str(place)
        self._place = place
        self._tls = tls
        self._links: set[ClientLink] = set()
        self._empty = asyncio.Event()
        self._listener: asyncio.Server | None = None

    def joined(self, link: ClientLink) -> None:
        """A client has connected."""
        self._links.add(link)
        self._empty.clear()

    def left(self, link: ClientLink) -> None:
        """A client's connection is gone."""
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    async def start(self) -> None:
        """Bind and accept; `address` says where."""
        loop = asyncio.get_running_loop()
        self._empty.set()
        place = self._place
        if place.path:
            self._listener = await loop.create_unix_server(
                self._accept, place.path, backlog=_BACKLOG, ssl=self._tls
            )
            return
        self._listener = await loop.create_server(
            self._accept, place.host or None, place.port, backlog=_BACKLOG, ssl=self._tls
        )
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def drain(self, deadline: float) -> None:
        """Accept nothing new, answer everything admitted, then close; cancelled at `deadline`."""
        self.is_draining = True
        if self._listener is not None:
            self._listener.close()
        for link in tuple(self._links):
            link.drain()
        await self._empty.wait()

    async def stop(self) -> None:
        """Close what is left."""
        if self._listener is not None:
            self._listener.close()
        for link in tuple(self._links):
            link.abort()
        await self._empty.wait()

    def _accept(self) -> ClientLink:
        return ClientLink(self)
