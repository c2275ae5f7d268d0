"""Backends that end connections in the most awkward moments, over real sockets and on a loop of their own.

What must not happen: an error that the client sees, an answer that belongs to another call, a call that may be executed
only once and is executed twice or not at all.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
import uvloop

from proxy.exchange import Call
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import LoopClock
from tests.support.pool_events import RecordedEvents
from tests.support.raw_backend import Manners, RawBackend, in_another_thread
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
STOLEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"


async def drive(
    backend: RawBackend,
    *,
    calls: int,
    clients: int,
    idempotent: bool,
    pause: Callable[[], Awaitable[None]] | None = None,
) -> RecordedEvents:
    """Send `calls` POSTs over `clients` callers, each in a `pause` between two; every answer is its own."""
    events = RecordedEvents()
    patient = {"min": 0, "connect": "100s", "wait": "100s"}  # a busy machine is not what is tested
    policy = UpstreamPolicy.model_validate({"pool": {"http": patient}, "health": {"every": "0s"}})
    cluster = Cluster("model", [parse_endpoint(backend.url)], policy, LoopClock(), events=events)
    await cluster.start()
    targets = iter(range(calls))

    async def client() -> None:
        for index in targets:
            target = b"/v1/models/m:predict?%d" % index
            call = Call(b"POST", target, ((b"Host", b"m"),), b"")
            call.idempotent = idempotent
            reply = await cluster.exchange(call)
            assert (reply.status, reply.body) == (200, target)
            if pause is not None:
                await pause()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    finally:
        await cluster.stop()
    assert len(backend.executed) == calls
    if not idempotent:
        assert set(backend.executed.values()) == {1}, "executed exactly once"
    return events


MANNERS = {
    "closes at once": Manners(close_after_s=0.0),
    "closes soon": Manners(close_after_s=0.001),
    "says 408 at once": Manners(chatter=TIMED_OUT, close_after_s=0.0),
    "says 408 soon": Manners(chatter=TIMED_OUT, chatter_after_s=0.001, close_after_s=0.001),
    "sends a second answer at once": Manners(chatter=STOLEN),
    "sends an empty line": Manners(chatter=b"\r\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "once"])
@pytest.mark.parametrize("manners", MANNERS.values(), ids=MANNERS)
async def test_no_client_notices(manners: Manners, idempotent: bool) -> None:
    with in_another_thread(RawBackend(manners)) as backend:
        await drive(backend, calls=1000, clients=16, idempotent=idempotent)


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "once"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(idempotent: bool) -> None:
    """It arrives between two calls. One that crosses the next call on its way could not be told from its answer."""
    with in_another_thread(RawBackend(Manners(chatter=STOLEN, chatter_after_s=0.001))) as backend:

        async def all_is_said() -> None:
            await until(lambda: backend.chattered == len(backend.executed))

        await drive(backend, calls=320, clients=16, idempotent=idempotent, pause=all_is_said)


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "once"])
@pytest.mark.parametrize("name", ["closes at once", "sends a second answer at once"])
async def test_no_client_notices_in_ten_thousand_calls(name: str, idempotent: bool) -> None:
    is_served_on = isinstance(asyncio.get_running_loop(), uvloop.Loop)
    calls = 10_000 if is_served_on else 2_500  # asyncio's own loop takes three times as long for them
    with in_another_thread(RawBackend(MANNERS[name])) as backend:
        await drive(backend, calls=calls, clients=32, idempotent=idempotent)


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "once"])
@pytest.mark.parametrize("keep_alive_s", [0.01, 0.03])
async def test_at_the_edge_of_the_backends_keep_alive(keep_alive_s: float, idempotent: bool) -> None:
    """Each caller comes back within a millisecond of the instant at which its connection is closed."""
    spread = random.Random(3)
    with in_another_thread(RawBackend(Manners(close_after_s=keep_alive_s))) as backend:
        await drive(
            backend,
            calls=1000,
            clients=16,
            idempotent=idempotent,
            pause=lambda: asyncio.sleep(keep_alive_s + spread.uniform(-0.001, 0.001)),
        )


@pytest.mark.slow
async def test_a_well_behaved_backend_keeps_its_connections() -> None:
    with in_another_thread(RawBackend()) as backend:
        events = await drive(backend, calls=5000, clients=16, idempotent=True)
    assert events.counts["reused"] >= 4900
    assert backend.connections <= 100
