"""A gRPC service, the HTTP/2 listener in front of it, and a client channel to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from grpc import aio

from proxy.config.addresses import Address
from proxy.ingress.http2 import Http2Server
from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy
from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import GrpcPoolPolicy, TimeoutPolicy
from proxy.timing import LoopClock
from tests.integration.grpc.service import UNLIMITED, Service, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.exchange import Call, Reply


class Relay:
    """A pipeline that forwards everything."""

    def __init__(self, pool: ChannelPool) -> None:
        self.pool = pool

    async def serve(self, call: Call) -> Reply:
        return await self.pool.exchange(call)


class Stage(NamedTuple):
    """Both sides of the proxy; `direct` and `proxied` are channels to the same service."""

    service: Service
    pool: ChannelPool
    listener: Http2Server
    direct: aio.Channel
    proxied: aio.Channel


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    service, clock = Service(), LoopClock()
    async with running(service) as (_server, port):
        endpoint = parse_endpoint(f"http://127.0.0.1:{port}")
        pool = ChannelPool(endpoint, GrpcPoolPolicy(min=2, max=4), TimeoutPolicy(), clock)
        listener = Http2Server(
            Relay(pool), Address("127.0.0.1", 0), LimitPolicy(), ServerTimeoutPolicy(), clock
        )
        await listener.start()
        async with (
            aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as direct,
            aio.insecure_channel(listener.address, options=UNLIMITED) as proxied,
        ):
            yield Stage(service, pool, listener, direct, proxied)
        await listener.stop()
        await pool.close()
