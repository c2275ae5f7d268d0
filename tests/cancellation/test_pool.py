"""A caller leaves at each await of an exchange: nothing it held is left, and nobody else is hurt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest

from proxy.exchange import Reply, Stream
from tests.support.pool_rig import PoolRig, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")

EMPTY = (0, 0, 0, 0)


@pytest.fixture
async def pool() -> AsyncIterator[PoolRig]:
    made = PoolRig({"max": 1})
    yield made
    await made.close()


async def leave(task: asyncio.Task[T]) -> None:
    """Cancel `task`, which then ends as cancelled."""
    await leave_now(task)
    assert task.cancelled()


async def leave_now(task: asyncio.Task[T]) -> None:
    """Cancel `task`, which may have ended already."""
    task.cancel()
    await settle()


async def test_while_a_connection_is_dialed(pool: PoolRig) -> None:
    pool.dialer.is_eager = False
    task = await pool.start()
    await leave(task)
    assert pool.state == (0, 0, 1, 0)
    pool.dialer.accept()
    await settle()
    assert pool.state == (1, 0, 0, 0), "the dial was not in vain"


async def test_while_a_dial_that_fails_is_under_way(pool: PoolRig) -> None:
    pool.dialer.is_eager = False
    await leave(await pool.start())
    pool.dialer.refuse()
    await settle()
    assert pool.state == EMPTY


async def test_while_waiting_for_a_connection(pool: PoolRig) -> None:
    busy = await pool.start(b"/1")
    await leave(await pool.start(b"/2"))
    assert pool.state == (0, 1, 0, 0)
    pool.asked[0].answer()
    await settle()
    assert busy.result().body == b"/1"


async def test_in_the_turn_in_which_the_connection_is_handed_over(pool: PoolRig) -> None:
    await pool.season()
    busy, waiting, next_ = [await pool.start(b"/%d" % index) for index in range(3)]
    [transport] = pool.asked
    transport.answer()
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert transport.unanswered == [b"/2"], "the next one in line has it"
    transport.answer()
    await settle()
    assert (busy.result().body, next_.result().body) == (b"/0", b"/2")


async def test_just_before_the_connection_is_handed_over(pool: PoolRig) -> None:
    await pool.season()
    await pool.start(b"/0")
    waiting, next_ = await pool.start(b"/1"), await pool.start(b"/2")
    [transport] = pool.asked
    waiting.cancel()
    transport.answer()
    await settle()
    assert transport.unanswered == [b"/2"]
    transport.answer()
    await settle()
    assert next_.result().body == b"/2"


async def test_in_the_turn_in_which_the_last_waiter_gets_a_connection(pool: PoolRig) -> None:
    await pool.season()
    await pool.start(b"/0")
    waiting = await pool.start(b"/1")
    pool.asked[0].answer()
    await leave_now(waiting)
    assert pool.state == (1, 0, 0, 0)


async def test_while_the_backend_works(pool: PoolRig) -> None:
    task = await pool.start()
    [transport] = pool.asked
    await leave(task)
    assert transport.is_closed, "the model stops at once"
    assert pool.state == EMPTY


async def test_in_the_turn_in_which_the_answer_arrives(pool: PoolRig) -> None:
    task = await pool.start()
    pool.asked[0].answer()
    await leave_now(task)
    assert pool.state == (1, 0, 0, 0)


async def test_just_before_the_answer_arrives(pool: PoolRig) -> None:
    task = await pool.start()
    [transport] = pool.asked
    task.cancel()
    transport.answer()
    await settle()
    assert task.cancelled()
    assert pool.state == (1, 0, 0, 0), "a clean exchange, although nobody wanted it"


async def test_in_the_turn_in_which_a_stream_begins(pool: PoolRig) -> None:
    task = await pool.start()
    [transport] = pool.asked
    transport.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await leave_now(task)
    assert transport.is_closed
    assert pool.state == EMPTY


async def test_while_a_stream_is_read(pool: PoolRig) -> None:
    task = await pool.start()
    [transport] = pool.asked
    transport.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    body = task.result().body
    assert isinstance(body, Stream)

    async def relay() -> None:
        try:
            while await body.read():
                pass
        finally:
            body.abandon()

    relaying = asyncio.get_running_loop().create_task(relay())
    await settle()
    await leave(relaying)
    assert transport.is_closed
    assert pool.state == EMPTY


async def test_while_a_body_is_uploaded(pool: PoolRig) -> None:
    body = Stream(None)
    task = await pool.start(body=body)
    body.feed(b"part")
    await settle()
    [transport] = pool.asked
    await leave(task)
    assert transport.is_closed
    assert pool.state == EMPTY
    body.feed(b"late")
    assert body.buffered == 0


async def stale(pool: PoolRig) -> asyncio.Task[Reply]:
    """A call whose reused connection has just died."""
    await pool.season()
    task = await pool.start()
    pool.dialer.is_eager = False
    pool.asked[0].hang_up()
    await settle()
    return task


async def test_while_a_repeated_call_waits_for_a_connection(pool: PoolRig) -> None:
    await leave(await stale(pool))
    assert pool.state == (0, 0, 1, 0)
    pool.dialer.accept()
    await settle()
    assert pool.state == (1, 0, 0, 0)


async def test_while_the_backend_works_on_a_repeated_call(pool: PoolRig) -> None:
    task = await stale(pool)
    transport = pool.dialer.accept()
    await settle()
    assert transport.unanswered
    await leave(task)
    assert transport.is_closed
    assert pool.state == EMPTY


async def test_everybody_at_once(pool: PoolRig) -> None:
    tasks = [await pool.start(b"/%d" % index) for index in range(50)]
    for task in tasks:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)
    assert pool.state[1:] == (0, 0, 0)


@pytest.mark.parametrize("turns", range(12))
async def test_after_any_number_of_turns_of_the_loop(turns: int) -> None:
    """Whatever await a call has reached by then."""
    pool = PoolRig({"max": 2})
    for transport in await pool.season(2):
        transport.hang_up_unnoticed()
    tasks = [pool.begin(pool.call(b"/%d" % index)) for index in range(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
        for transport in pool.asked:
            transport.hang_up()
    for task in tasks:
        task.cancel()
    await settle()
    assert pool.state[1:] == (0, 0, 0)
    await pool.close()
