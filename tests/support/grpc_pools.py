"""Channel pools for tests, and pool events that nobody hears."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from proxy.exchange import Call, Reply, Stream
from proxy.pooling.attempt import Attempt
from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.context import PoolContext
from proxy.pooling.dial import Dialer
from proxy.pooling.ejection import Ejection
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import EjectPolicy, UpstreamPolicy
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from proxy.exchange import Begun, Taker
    from proxy.pooling.member import Member, Outcome
    from proxy.timing import Clock
    from tests.support.http2_backend import Backend

__all__ = ("HEADERS", "DeafEvents", "begin_on", "call", "channel_pool", "pool_to")

HEADERS = ((b"host", b"a"), (b"content-type", b"application/grpc"))


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


class _Healthy:
    """The member of a cluster that knows of no failure."""

    def __init__(self) -> None:
        self.ejection = Ejection(EjectPolicy())

    def succeeded(self) -> None: ...


def begin_on(pool: ChannelPool, call: Call, taker: Taker) -> Begun | None:
    """Send `call` without a task, as a cluster of this one pool would that never tries again."""

    async def settle(_call: Call, _member: object, outcome: Outcome) -> Reply:
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    if isinstance(call.body, Stream) or (channel := pool.take()) is None:
        return None
    attempt = Attempt(call, taker, cast("Member", _Healthy()), pool, settle)
    attempt.sent = pool.send(channel, call, attempt)
    return attempt


def call(body: bytes | Stream = b"hello") -> Call:
    """A gRPC call."""
    made = Call(b"POST", b"/t.T/M", HEADERS, body)
    made.is_grpc = True
    return made


def pool_to(
    backend: Backend, grpc: dict[str, object] | None = None, *, clock: Clock | None = None, **policy: object
) -> AbstractAsyncContextManager[ChannelPool]:
    """`channel_pool` of one channel, unless `grpc` says otherwise."""
    grpc = {"min": 1, "max": 1} | (grpc or {})
    return channel_pool(backend.port, grpc, clock=clock, host="127.0.0.1", **policy)


@asynccontextmanager
async def channel_pool(
    port: int,
    grpc: dict[str, object] | None = None,
    *,
    clock: Clock | None = None,
    host: str = "127.0.0.1",
    **policy: object,
) -> AsyncIterator[ChannelPool]:
    """A pool to a port of this machine; `grpc` are its own settings, `policy` the upstream's others."""
    endpoint, clock = parse_endpoint(f"http://{host}:{port}"), clock or LoopClock()
    pool = ChannelPool(
        PoolContext(
            endpoint,
            UpstreamPolicy.model_validate({"pool": {"grpc": grpc or {}}, **policy}),
            Dialer(endpoint, clock),
            clock,
            events=DeafEvents(),
            random=lambda: 0.5,
            on_trouble=lambda: None,
        )
    )
    try:
        yield pool
    finally:
        await pool.close()
