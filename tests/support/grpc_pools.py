"""Channel pools for tests, and pool events that nobody hears."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.dial import Dialer
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("DeafEvents", "channel_pool")


class DeafEvents:
    """Implements `PoolEvents`."""

    def connected(self, result: str, span_s: float) -> None: ...

    def closed(self, why: str, uses: int) -> None: ...

    def reused(self) -> None: ...

    def stale(self) -> None: ...

    def waited(self, span_s: float) -> None: ...

    def answered(self, status: int, span_s: float) -> None: ...

    def retried(self) -> None: ...

    def retry_ended(self, result: str) -> None: ...

    def hedged(self) -> None: ...

    def probed(self, result: str) -> None: ...

    def ejected(self) -> None: ...


@asynccontextmanager
async def channel_pool(
    port: int, grpc: dict[str, object] | None = None, **policy: object
) -> AsyncIterator[ChannelPool]:
    """A pool to a loopback port; `grpc` are its own settings, `policy` the upstream's others."""
    endpoint, clock = parse_endpoint(f"http://127.0.0.1:{port}"), LoopClock()
    pool = ChannelPool(
        endpoint,
        UpstreamPolicy.model_validate({"pool": {"grpc": grpc or {}}, **policy}),
        Dialer(endpoint, clock),
        clock,
        events=DeafEvents(),
        random=lambda: 0.5,
        on_trouble=lambda: None,
    )
    try:
        yield pool
    finally:
        await pool.close()
