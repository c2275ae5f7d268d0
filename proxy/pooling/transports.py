"""One upstream's two doors: gRPC calls go to its channels, all others to its HTTP/1.1 connections.

Owned by the application, owns both pools. An upstream may have only one door; a call for the other one has
nowhere to go, which is the configuration's affair and is answered like an unknown route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import RouteNotFound

if TYPE_CHECKING:
    from proxy.exchange import Call, Reply
    from proxy.pooling.channel_pool import ChannelPool
    from proxy.pooling.http_pool import HttpPool

__all__ = ("Transports",)


class Transports:
    """Implements `Upstream` over both pools."""

    __slots__ = ("_grpc", "_http")

    def __init__(self, http: HttpPool | None, grpc: ChannelPool | None) -> None:
        self._http = http
        self._grpc = grpc

    async def exchange(self, call: Call) -> Reply:
        """Send `call` by the transport that it speaks; raises what the pool raises, or `RouteNotFound`."""
        if call.is_grpc:
            if self._grpc is None:
                raise RouteNotFound("this upstream has no gRPC endpoint")
            return await self._grpc.exchange(call)
        if self._http is None:
            raise RouteNotFound("this upstream has no HTTP endpoint")
        return await self._http.exchange(call)

    async def close(self) -> None:
        """Close both."""
        if self._grpc is not None:
            await self._grpc.close()
        if self._http is not None:
            await self._http.close()

    def snapshot(self) -> dict[str, object]:
        """Both pools' states for the status page."""
        pools = {"http": self._http, "grpc": self._grpc}
        return {name: pool.snapshot() for name, pool in pools.items() if pool is not None}
