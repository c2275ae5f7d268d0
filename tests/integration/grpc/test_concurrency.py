"""The adaptive limit on calls in flight to a gRPC endpoint."""

from __future__ import annotations

from tests.integration.grpc.inference_rig import begin
from tests.support.clock import FakeClock
from tests.support.grpc_pools import call, pool_to
from tests.support.http2_backend import Backend, Connection
from tests.support.waiting import standstill, until

ADAPTIVE = {"mode": "adaptive", "least": 2, "most": 4}


async def test_calls_above_the_limit_wait_although_the_channel_has_room() -> None:
    backend, held = Backend(), list[tuple[Connection, int]]()
    async with (
        backend.running(),
        pool_to(backend, {"max": 9}, clock=FakeClock(), concurrency=ADAPTIVE) as pool,
    ):
        assert pool.lease_limit == 4
        await pool.exchange(call())  # after which the backend's own limit is known
        backend.respond = lambda connection, stream_id: held.append((connection, stream_id))
        calls = [begin(pool.exchange(call())) for _ in range(10)]
        for answered in range(10):
            expected = min(4, 10 - answered)
            await until(lambda count=expected: len(held) == count)  # type: ignore[misc]  # mypy wants it typed
            assert pool.waiting == max(0, 6 - answered)
            connection, stream_id = held.pop()
            connection.answer(stream_id)
        assert [(await one).body for one in calls] == [b"hello"] * 10
        assert await standstill(lambda: len(backend.connections)) == 1  # none was opened for those who waited


async def test_the_limit_falls_when_answers_take_longer() -> None:
    backend, clock = Backend(), FakeClock()
    held: list[tuple[Connection, int]] = []
    backend.respond = lambda connection, stream_id: held.append((connection, stream_id))
    concurrency = {"mode": "adaptive", "least": 2, "most": 100}
    async with backend.running(), pool_to(backend, clock=clock, concurrency=concurrency) as pool:

        async def together(span_s: float) -> None:
            count = pool.lease_limit
            calls = [begin(pool.exchange(call())) for _ in range(count)]
            await until(lambda: len(held) == count)
            clock.advance(span_s)
            for connection, stream_id in held:
                connection.answer(stream_id)
            held.clear()
            for one in calls:
                await one

        for _ in range(10):
            await together(0.1)
        steady = pool.lease_limit
        await together(1.0)
        assert 2 <= pool.lease_limit < steady
