"""gRPC endpoints as a cluster: probed in gRPC's own way, chosen by health, retried where that is harmless."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.errors import NoHealthyEndpoint
from proxy.exchange import Call, Reply
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import LoopClock
from tests.support.grpc_pools import DeafEvents
from tests.support.http2_backend import HEAD, OK, WRITER, Backend, Connection
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEALTH = b"/grpc.health.v1.Health/Check"
READY = b"/inference.GRPCInferenceService/ServerReady"
YES = b"\0\0\0\0\2\x08\x01"
NO = b"\0\0\0\0\2\x08\x02"
UNIMPLEMENTED = WRITER.response(200, ((b"content-type", b"application/grpc"), (b"grpc-status", b"12")))
HEADERS = ((b"host", b"a"), (b"content-type", b"application/grpc"))


@asynccontextmanager
async def cluster_of(*ports: int, path: str = "auto") -> AsyncIterator[Cluster]:
    policy = UpstreamPolicy.model_validate(
        {"pool": {"grpc": {"min": 1}}, "health": {"path": path, "fall": 1}, "retry": {"attempts": 2}}
    )
    endpoints = [parse_endpoint(f"http://127.0.0.1:{port}") for port in ports]
    cluster = Cluster("model", endpoints, policy, LoopClock(), events=DeafEvents(), protocol="grpc")
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def saying(health: bytes | None, ready: bytes | None = None) -> Callable[[Connection, int], None]:
    """A backend that answers probes with these messages (None: unimplemented) and echoes calls."""

    def respond(connection: Connection, stream_id: int) -> None:
        target = connection.requests[stream_id].target
        if target not in {HEALTH, READY}:
            connection.answer(stream_id)
            return
        message = health if target == HEALTH else ready
        if message is None:
            connection.session.send_headers(stream_id, UNIMPLEMENTED, end=True)
        else:
            connection.session.send_message(stream_id, HEAD, message, OK)

    return respond


async def echo(cluster: Cluster) -> Reply:
    call = Call(b"POST", b"/t.T/M", HEADERS, b"hello")
    call.is_grpc = True
    return await cluster.exchange(call)


@pytest.mark.parametrize(
    ("health", "ready", "expected"),
    [
        (YES, None, ""),
        (None, YES, ""),
        (None, None, ""),
        (NO, YES, "not serving"),
        (None, NO, "not serving"),
    ],
)
async def test_probes(health: bytes | None, ready: bytes | None, expected: str) -> None:
    backend = Backend()
    backend.respond = saying(health, ready)
    async with backend.running(), cluster_of(backend.port) as cluster:
        await until(lambda: cluster.snapshot()[0]["health"] != "starting")
        (endpoint,) = cluster.snapshot()
        assert (endpoint["why"], cluster.readiness()[0]) == (expected, not expected)


async def test_a_backend_that_is_late_with_its_health_goes_on_taking_calls() -> None:
    backend = Backend()
    told = saying(YES)

    def only_calls(connection: Connection, stream_id: int) -> None:
        if connection.requests[stream_id].target == b"/t.T/M":
            told(connection, stream_id)

    backend.respond = only_calls
    async with backend.running(), cluster_of(backend.port) as cluster:
        await until(lambda: cluster.snapshot()[0]["health"] == "down")
        assert cluster.readiness() == (False, f"http://127.0.0.1:{backend.port}: no answer in time")
        assert (await echo(cluster)).body == b"hello"


async def test_a_connection_is_enough_for_tcp() -> None:
    backend = Backend()
    backend.respond = saying(NO)
    async with backend.running(), cluster_of(backend.port, path="tcp") as cluster:
        await until(lambda: cluster.readiness()[0])


async def test_a_failing_status_is_named() -> None:
    backend = Backend()

    def fail(connection: Connection, stream_id: int) -> None:
        fields = ((b"content-type", b"application/grpc"), (b"grpc-status", b"14"))
        connection.session.send_headers(stream_id, WRITER.response(200, fields), end=True)

    backend.respond = fail
    async with backend.running(), cluster_of(backend.port) as cluster:
        await until(lambda: cluster.snapshot()[0]["why"] == "grpc-status 14")


async def test_something_that_is_no_grpc_is_named() -> None:
    backend = Backend()

    def not_found(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, WRITER.response(404, ()), end=True)

    backend.respond = not_found
    async with backend.running(), cluster_of(backend.port) as cluster:
        await until(lambda: cluster.snapshot()[0]["why"] == "no gRPC: status 404")


async def test_a_healthy_endpoint_is_kept_warm() -> None:
    backend = Backend()
    backend.respond = saying(YES)
    async with backend.running(), cluster_of(backend.port) as cluster:
        await until(lambda: cluster.snapshot()[0]["channels"] == 1)
        gauges = cluster.gauges()
        connections = dict(gauges["upstream_connections"]())
        assert connections["model", "grpc", "idle"] == 1
        assert list(gauges["endpoint_healthy"]()) == [(("model", f"http://127.0.0.1:{backend.port}"), 1.0)]


async def test_calls_go_where_somebody_listens() -> None:
    backend, dead = Backend(), Backend()
    backend.respond = saying(YES)
    async with dead.running():
        pass
    async with backend.running(), cluster_of(dead.port, backend.port) as cluster:
        assert [(await echo(cluster)).body for _ in range(10)] == [b"hello"] * 10


async def test_nobody_listens() -> None:
    dead = Backend()
    async with dead.running():
        pass
    async with cluster_of(dead.port) as cluster:
        with pytest.raises(NoHealthyEndpoint):
            await echo(cluster)


async def test_a_backend_that_restarts_is_found_again() -> None:
    backend = Backend()
    backend.respond = saying(YES)
    async with backend.running():
        port = backend.port
        async with cluster_of(port) as cluster:
            assert (await echo(cluster)).body == b"hello"
            for connection in backend.connections:
                connection.abort()
            answers = []
            for _ in range(5):
                await asyncio.sleep(0)
                answers.append((await echo(cluster)).body)
            assert answers == [b"hello"] * 5
