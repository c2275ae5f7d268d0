"""Calls that wait for a channel with room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.http2.limits import Limits
from tests.integration.grpc.inference_rig import begin
from tests.support.clock import FakeClock
from tests.support.grpc_pools import call, pool_to
from tests.support.http2_backend import Backend, Connection
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.errors import ProxyError
    from proxy.exchange import Reply


class Then:
    """Implements `Answer`: does something as soon as there is one."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, _reply: Reply, /) -> None:
        self._is_done = True
        self._action()

    def set_exception(self, error: ProxyError, /) -> None:
        raise AssertionError(error)


async def test_what_a_cancelled_call_was_given_is_the_next_ones() -> None:
    backend, held = Backend(Limits(streams=1)), list[tuple[Connection, int]]()
    loop = asyncio.get_running_loop()
    async with backend.running(), pool_to(backend, clock=FakeClock()) as pool:
        await pool.exchange(call())
        backend.respond = lambda connection, stream_id: held.append((connection, stream_id))
        channel = pool.take()
        assert channel is not None
        # Runs before the one that is given the channel wakes up.
        pool.send(channel, call(), Then(lambda: loop.call_soon(given.cancel)))
        given, next_one = begin(pool.exchange(call())), begin(pool.exchange(call()))
        await until(lambda: bool(held) and pool.waiting == 2)
        backend.respond = Connection.answer
        connection, stream_id = held.pop()
        connection.answer(stream_id)
        with pytest.raises(asyncio.CancelledError):
            await given
        assert (await next_one).body == b"hello"


async def test_a_call_that_is_passed_over_waited_once() -> None:
    backend, clock, held = Backend(Limits(streams=1)), FakeClock(), list[tuple[Connection, int]]()
    async with backend.running(), pool_to(backend, clock=clock) as pool:
        await pool.exchange(call())
        backend.respond = lambda connection, stream_id: held.append((connection, stream_id))
        first, late = begin(pool.exchange(call())), call()
        await until(lambda: bool(held))
        waiting = begin(pool.exchange(late))
        await until(lambda: pool.waiting == 1)
        clock.advance(1.0)
        pool._core.waiting.popleft().claim.set_result(pool._core.channels[0])  # which is full
        await asyncio.sleep(0)
        await until(lambda: pool.waiting == 1)
        clock.advance(1.0)
        backend.respond = Connection.answer
        connection, stream_id = held.pop()
        connection.answer(stream_id)
        await first
        await waiting
        assert late.pool_s == pytest.approx(2.0)
