"""A gRPC service, the HTTP/2 listener in front of it, and a client channel to each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from grpc import aio

from proxy.config.addresses import Address
from proxy.exchange import Ledger
from proxy.ingress.http2 import Http2Server
from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy
from proxy.ingress.rules import HeadRules
from proxy.timing import LoopClock
from tests.integration.grpc.service import UNLIMITED, Service, running
from tests.support.grpc_pools import begin_on, channel_pool
from tests.support.http2_backend import Backend
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.errors import ProxyError
    from proxy.exchange import Begun, Call, Reply, Taker
    from proxy.pooling.channel_pool import ChannelPool


class Relay:
    """A pipeline that forwards everything."""

    def __init__(self, pool: ChannelPool) -> None:
        self.pool = pool

    async def serve(self, call: Call) -> Reply:
        return await self.pool.exchange(call)

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        return begin_on(self.pool, call, taker)

    def refuse(self, call: Call, error: ProxyError) -> None:
        raise AssertionError(error)


class Stage(NamedTuple):
    """Both sides of the proxy; `direct` and `proxied` are channels to the same service at `address`."""

    service: Service
    pool: ChannelPool
    listener: Http2Server
    direct: aio.Channel
    proxied: aio.Channel
    address: str


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend whose HTTP/2 a test writes."""
    async with Backend().running() as running:
        yield running


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """The fixture, for tests elsewhere."""
    service, clock = Service(), LoopClock()
    limits = LimitPolicy()
    async with running(service) as (_server, port), channel_pool(port, {"min": 2, "max": 4}) as pool:
        listener = Http2Server(
            Relay(pool),
            Address("127.0.0.1", 0),
            HeadRules(limits),
            ServerTimeoutPolicy(),
            clock,
            ledger=Ledger(limits.buffered),
        )
        await listener.start()
        async with (
            aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as direct,
            aio.insecure_channel(listener.address, options=UNLIMITED) as proxied,
        ):
            yield Stage(service, pool, listener, direct, proxied, f"127.0.0.1:{port}")
        await listener.stop()
        await until(lambda: listener.ledger.used == 0)
