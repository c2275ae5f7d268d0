"""Cancelling a gRPC call wherever it waits: the pool holds nothing for it afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Stream
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from tests.integration.grpc.inference_rig import begin
from tests.support.clock import FakeClock
from tests.support.grpc_pools import call, pool_to
from tests.support.http2_backend import Backend, Connection
from tests.support.recorded_flow import RecordedFlow
from tests.support.waiting import until

if TYPE_CHECKING:
    from proxy.exchange import Reply
    from proxy.pooling.channel_pool import ChannelPool


class Held:
    """Keeps calls waiting; `resets` are the codes of those that were given up."""

    def __init__(self, backend: Backend) -> None:
        self.calls: list[tuple[Connection, int]] = []
        self._backend = backend
        backend.respond = lambda connection, stream_id: self.calls.append((connection, stream_id))

    @property
    def resets(self) -> list[int]:
        return [code for connection in self._backend.connections for code in connection.resets.values()]


async def cancelled(task: asyncio.Task[Reply]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_empty(pool: ChannelPool) -> None:
    assert (pool.load, pool.waiting) == (0, 0)


async def test_while_its_channel_is_dialed() -> None:
    backend = Backend()
    async with backend.running(), pool_to(backend) as pool:
        task = begin(pool.exchange(call()))
        await asyncio.sleep(0)
        assert pool.snapshot()["dialing"] == 1
        await cancelled(task)
        assert_empty(pool)
        assert (await pool.exchange(call())).body == b"hello"  # the dial was not in vain


async def test_while_it_waits_for_room() -> None:
    backend = Backend(Limits(streams=1))
    async with backend.running(), pool_to(backend, clock=FakeClock()) as pool:
        await pool.exchange(call())
        held = Held(backend)
        first, second = begin(pool.exchange(call())), begin(pool.exchange(call()))
        await until(lambda: bool(held.calls) and pool.waiting == 1)
        await cancelled(second)
        assert (pool.load, pool.waiting) == (1, 0)
        await cancelled(first)
        assert_empty(pool)


async def test_while_it_is_answered() -> None:
    backend = Backend()
    async with backend.running(), pool_to(backend) as pool:
        held = Held(backend)
        task = begin(pool.exchange(call()))
        await until(lambda: bool(held.calls))
        await cancelled(task)
        assert_empty(pool)
        await until(lambda: held.resets == [ErrorCode.CANCEL])


async def test_while_its_request_is_on_its_way() -> None:
    backend = Backend()
    async with backend.running(), pool_to(backend) as pool:
        body = Stream(RecordedFlow())
        body.feed(b"the beginning")
        task = begin(pool.exchange(call(body)))
        await until(lambda: any(connection.bodies.get(1) for connection in backend.connections))
        await cancelled(task)
        assert_empty(pool)
        await until(lambda: backend.connections[0].resets == {1: ErrorCode.CANCEL})


async def test_while_it_pauses_before_another_try() -> None:
    backend, clock = Backend(), FakeClock()
    tries = 0

    def refuse(connection: Connection, stream_id: int) -> None:
        nonlocal tries
        tries += 1
        connection.session.reset(stream_id, ErrorCode.REFUSED_STREAM)

    backend.respond = refuse
    async with backend.running(), pool_to(backend, clock=clock) as pool:
        task = begin(pool.exchange(call()))
        await until(lambda: tries == 2 and not pool.load)  # the first time it is sent again at once
        await cancelled(task)
        assert_empty(pool)
        clock.advance(1.0)
        assert tries == 2
