"""How long a channel waits, how much it takes, and when it grows: on a clock that stands still until the test moves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import (
    DeadlineExceeded,
    LeaseTimeout,
    QueueFull,
    ReadTimeout,
    Reset,
)
from proxy.exchange import Call, Reply, Stream
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.timing import Deadline
from tests.support.clock import FakeClock
from tests.support.grpc_pools import call, pool_to
from tests.support.http2_backend import HEAD, Backend, Connection
from tests.support.waiting import until

if TYPE_CHECKING:
    from proxy.pooling.channel_pool import ChannelPool


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def begun(pool: ChannelPool, backend: Backend, asked: Call) -> asyncio.Task[Reply]:
    """The exchange of `asked`, once it has reached the backend."""
    task = asyncio.get_running_loop().create_task(pool.exchange(asked))
    await until(lambda: bool(backend.connections and backend.connections[0].requests))
    return task


async def test_the_deadline_ends_a_call(backend: Backend, clock: FakeClock) -> None:
    backend.respond = lambda connection, stream_id: None
    async with pool_to(backend, clock=clock) as pool:
        hasty = call()
        hasty.deadline = Deadline(clock.now() + 1.0)
        waiting = await begun(pool, backend, hasty)
        clock.advance(1.0)
        with pytest.raises(DeadlineExceeded):
            await waiting
        await until(lambda: backend.connections[0].resets == {1: ErrorCode.CANCEL})


async def test_a_silent_backend_is_given_up(backend: Backend, clock: FakeClock) -> None:
    backend.respond = lambda connection, stream_id: None
    async with pool_to(backend, clock=clock, timeouts={"first_byte": "5s"}) as pool:
        waiting = await begun(pool, backend, call())
        clock.advance(4.9)
        assert not waiting.done()
        clock.advance(0.1)
        with pytest.raises(ReadTimeout):
            await waiting


async def test_a_backend_that_falls_silent_is_given_up(backend: Backend, clock: FakeClock) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, HEAD)

    backend.respond = respond
    async with pool_to(backend, clock=clock, timeouts={"idle": "5s"}) as pool:
        reply = await pool.exchange(call())
        assert isinstance(reply.body, Stream)
        clock.advance(5.0)
        with pytest.raises(ReadTimeout):
            await reply.body.read()


async def test_the_peers_limit_of_streams_is_kept(clock: FakeClock) -> None:
    backend = Backend(Limits(streams=2))
    backend.respond = lambda connection, stream_id: None
    async with (
        backend.running(),
        pool_to(backend, {"wait": "1s"}, clock=clock) as pool,
    ):
        waiting = [asyncio.create_task(pool.exchange(call(b"%d" % n))) for n in range(2)]  # noqa: TID251  owned here
        await until(lambda: bool(backend.connections and len(backend.connections[0].requests) == 2))
        hasty = asyncio.create_task(pool.exchange(call()))  # noqa: TID251  the test owns it
        await until(lambda: pool.snapshot()["waiting"] == 1)
        clock.advance(1.0)
        with pytest.raises(LeaseTimeout):
            await hasty
        third = asyncio.create_task(pool.exchange(call(b"third")))  # noqa: TID251  the test owns it
        await until(lambda: pool.snapshot()["waiting"] == 1)
        backend.respond = Connection.answer
        backend.connections[0].answer(1)
        assert [(await reply).body for reply in (waiting[0], third)] == [b"0", b"third"]
        backend.connections[0].answer(3)
        await waiting[1]


async def test_calls_that_come_together_find_the_limit_of_a_new_backend() -> None:
    backend = Backend(Limits(streams=1))
    backend.respond = lambda connection, stream_id: None
    async with backend.running(), pool_to(backend, {"max": 4}) as pool:
        calls = [asyncio.create_task(pool.exchange(call(b"%d" % n))) for n in range(8)]  # noqa: TID251  owned here
        await until(lambda: [len(connection.requests) for connection in backend.connections] == [1] * 4)
        assert pool.snapshot()["waiting"] == 4
        backend.respond = Connection.answer
        for connection in backend.connections:
            connection.answer(1)
        assert {(await reply).body for reply in calls} == {b"%d" % n for n in range(8)}


async def test_the_queue_is_bounded() -> None:
    backend = Backend(Limits(streams=1))
    backend.respond = lambda connection, stream_id: None
    async with backend.running(), pool_to(backend, {"queue": 0}) as pool:
        with pytest.raises(QueueFull):
            await pool.exchange(call())


async def test_a_busy_pool_grows_and_ages(backend: Backend) -> None:
    backend.respond = lambda connection, stream_id: None
    policy: dict[str, object] = {"max": 3, "streams": 2}
    async with pool_to(backend, policy) as pool:
        tasks = []
        for _ in range(6):
            tasks.append(asyncio.create_task(pool.exchange(call())))  # noqa: TID251  owned here
            await until(lambda: sum(len(c.requests) for c in backend.connections) == len(tasks))
            await until(lambda: pool.snapshot()["dialing"] == 0)
        assert len(backend.connections) == 3
        assert sorted(len(connection.requests) for connection in backend.connections) == [2, 2, 2]
        for connection in backend.connections:
            for stream_id in connection.requests:
                connection.answer(stream_id)
        replies: list[Reply] = await asyncio.gather(*tasks)
        assert {reply.body for reply in replies} == {b"hello"}


async def test_an_old_channel_is_replaced_behind_its_calls(backend: Backend, clock: FakeClock) -> None:
    backend.respond = lambda connection, stream_id: None
    async with pool_to(backend, {"max": 2, "max_age": "10s"}, clock=clock) as pool:
        waiting = await begun(pool, backend, call())
        clock.advance(20.0)
        await until(lambda: pool.snapshot()["draining"] == 1)
        await until(lambda: len(backend.connections) > 1)
        backend.connections[0].answer(1)
        assert (await waiting).body == b"hello"


async def test_an_unread_answer_stops_the_backend(backend: Backend) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_message(stream_id, HEAD, bytes(4 << 20))

    backend.respond = respond
    async with pool_to(backend) as pool:
        reply = await pool.exchange(call())
        assert isinstance(reply.body, Stream)
        await until(lambda: reply.body.buffered > 256 << 10)  # type: ignore[union-attr]  # a Stream, as asserted
        queued = backend.connections[0].session.queued(1)
        assert queued > 3 << 20
        size = 0
        while data := await reply.body.read():
            size += len(data)
        assert size == 4 << 20


async def test_an_unread_request_stops_the_client(backend: Backend) -> None:
    backend.credits = False
    body = Stream(None)
    async with pool_to(backend) as pool:
        waiting = asyncio.create_task(pool.exchange(call(body)))  # noqa: TID251  the test owns it
        for _ in range(10):
            body.feed(bytes(50_000))
            await asyncio.sleep(0)
        await until(
            lambda: bool(backend.connections and sum(map(len, backend.connections[0].bodies.values())))
        )
        await until(lambda: len(backend.connections[0].bodies[1]) == 65_535)
        assert body.buffered > 0
        body.end()
        backend.connections[0].session.credit(1, 65_535)
        backend.credits = True
        backend.connections[0].wake()
        reply = await waiting
        assert isinstance(reply.body, Stream)
        size = 0
        while data := await reply.body.read():
            size += len(data)
        assert size == 500_000


async def test_a_backend_that_gives_no_sign_of_life(backend: Backend, clock: FakeClock) -> None:
    """Its kernel still takes what is sent; the process does nothing."""
    backend.respond = lambda connection, stream_id: connection.transport.pause_reading()
    async with pool_to(backend, {"ping": "5s"}, clock=clock) as pool:
        waiting = await begun(pool, backend, call())
        clock.advance(5.0)
        assert not waiting.done()
        clock.advance(5.0)
        with pytest.raises(Reset, match="no sign of life"):
            await waiting
        await until(lambda: pool.snapshot()["channels"] == 0)
        assert pool.snapshot()["calls"] == 0


async def test_a_slow_backend_that_answers_pings_is_waited_for(backend: Backend, clock: FakeClock) -> None:
    backend.respond = lambda connection, stream_id: None
    async with pool_to(backend, {"ping": "5s"}, clock=clock) as pool:
        waiting = await begun(pool, backend, call())
        (channel,) = pool._core.channels
        clock.advance(5.0)
        assert channel._pulse._is_asked
        clock.advance(1.0)
        await until(lambda: channel.heard_at == clock.now())
        clock.advance(40.0)
        backend.connections[0].answer(1)
        assert (await waiting).body == b"hello"
