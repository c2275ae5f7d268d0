"""A backend that computes and leaves probes unanswered still gets its calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.errors import NoHealthyEndpoint
from proxy.exchange import Call
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.events import unobserved
from proxy.pooling.policy import UpstreamPolicy
from proxy.telemetry.metrics import Metrics
from proxy.timing import LoopClock
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.pooling.events import Sightings


async def only_inference(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers POSTs; a GET is never answered."""
    try:
        while (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST"):
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def cluster_before(port: int, seen: Sightings = unobserved) -> AsyncIterator[Cluster]:
    policy = UpstreamPolicy.model_validate(
        {"health": {"timeout": "100ms", "fall": 1}, "pool": {"http": {"min": 0}}}
    )
    cluster = Cluster(
        "model",
        (parse_endpoint(f"http://127.0.0.1:{port}"),),
        policy,
        LoopClock(),
        events=Metrics("test").pool("model"),
        protocol="open-inference",
        seen=seen,
    )
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def test_calls_go_on_while_only_probes_are_late() -> None:
    server = await asyncio.start_server(only_inference, "127.0.0.1", 0)
    sightings: list[bool] = []

    def seen(_endpoint: str, /, *, is_alive: bool) -> None:
        sightings.append(is_alive)

    async with cluster_before(server.sockets[0].getsockname()[1], seen) as cluster:
        await until(lambda: "in time" in cluster.readiness()[1])
        calls = [Call(b"POST", b"/v2/models/m/infer", ((b"Host", b"h"),), b"{}") for _ in range(40)]
        replies = await asyncio.gather(*map(cluster.exchange, calls))
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"ok")] * 40
        assert not cluster.readiness()[0], "and readiness goes on saying that probes fail"
        assert not sightings, "and nobody takes it for dead"
    server.close()


async def test_an_endpoint_that_refuses_connections_is_not_merely_busy() -> None:
    server = await asyncio.start_server(only_inference, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    async with cluster_before(port) as cluster:
        await until(
            lambda: "refused" in cluster.readiness()[1].lower() or "connect" in cluster.readiness()[1].lower()
        )
        with pytest.raises(NoHealthyEndpoint):
            await cluster.exchange(Call(b"POST", b"/v2/models/m/infer", ((b"Host", b"h"),), b"{}"))
