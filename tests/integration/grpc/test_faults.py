"""What a backend can do to a channel, and what the caller hears of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import (
    BadReply,
    ConnectFailed,
    Reset,
    StreamRefused,
    StreamReset,
)
from proxy.exchange import Reply, Stream
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession
from tests.support.grpc_pools import HEADERS, call, pool_to
from tests.support.http2_backend import HEAD, WRITER, Backend, Connection
from tests.support.waiting import until
from tests.support.whole import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pooling.channel_pool import ChannelPool


def resetting(code: ErrorCode) -> Callable[[Connection, int], None]:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.reset(stream_id, code)

    return respond


def calls_in(pool: ChannelPool) -> object:
    return pool.snapshot()["calls"]


async def test_whole_exchange(backend: Backend) -> None:
    async with pool_to(backend) as pool:
        reply = await pool.exchange(call())
        assert (reply.status, reply.body, reply.trailers) == (200, b"hello", ((b"grpc-status", b"0"),))
        assert reply.headers == ((b"content-type", b"application/grpc"),)
        assert calls_in(pool) == 0


async def test_a_lone_call_leaves_at_once_and_others_in_one_write(backend: Backend) -> None:
    async with pool_to(backend) as pool:
        await pool.exchange(call())
        channel = pool.take()
        assert channel is not None
        answers: list[asyncio.Future[Reply]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for answer in answers:
            pool.send(channel, call(), answer)
            assert channel.session.wants_to_send is (answer is not answers[0])
        assert [reply.body for reply in await asyncio.gather(*answers)] == [b"hello"] * 3


async def test_reset_by_the_backend_carries_its_code(backend: Backend) -> None:
    backend.respond = resetting(ErrorCode.ENHANCE_YOUR_CALM)
    async with pool_to(backend) as pool:
        with pytest.raises(StreamReset) as caught:
            await pool.exchange(call())
        assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM
        assert calls_in(pool) == 0


async def test_a_refused_stream_is_sent_again(backend: Backend) -> None:
    refusals = 6

    def respond(connection: Connection, stream_id: int) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            connection.session.reset(stream_id, ErrorCode.REFUSED_STREAM)
        else:
            connection.answer(stream_id)

    backend.respond = respond
    async with pool_to(backend) as pool:
        assert (await pool.exchange(call())).body == b"hello"


async def test_a_stream_refused_for_ever_is_given_up(backend: Backend) -> None:
    backend.respond = resetting(ErrorCode.REFUSED_STREAM)
    async with pool_to(backend) as pool:
        with pytest.raises(StreamRefused):
            await pool.exchange(call())


async def test_goaway_moves_calls_to_another_channel(backend: Backend) -> None:
    """The backend says that it has looked at nothing; the caller never hears of it."""
    is_first = True

    def respond(connection: Connection, stream_id: int) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            connection.session._streams.last_peer_id = 0
            connection.session.close()
        else:
            connection.answer(stream_id)

    backend.respond = respond
    async with pool_to(backend) as pool:
        assert (await pool.exchange(call())).body == b"hello"
        assert len(backend.connections) == 2


async def test_goaway_lets_calls_in_progress_finish(backend: Backend) -> None:
    backend.respond = lambda connection, stream_id: connection.session.close()
    async with pool_to(backend) as pool:
        first = asyncio.create_task(pool.exchange(call()))  # noqa: TID251  the test owns it
        await until(lambda: bool(backend.connections and backend.connections[0].requests))
        await until(lambda: pool.snapshot()["draining"] == 1)
        backend.respond = Connection.answer
        assert (await pool.exchange(call(b"second"))).body == b"second"
        backend.connections[0].answer(1)
        assert (await first).body == b"hello"
        await until(lambda: pool.snapshot()["draining"] == 0)


async def test_a_restart_between_calls_is_not_noticed(backend: Backend) -> None:
    async with pool_to(backend) as pool:
        await pool.exchange(call())
        for connection in backend.connections:
            connection.abort()
        await until(lambda: pool.snapshot()["channels"] == 0)
        assert (await pool.exchange(call())).body == b"hello"


async def test_a_connection_that_breaks_ends_its_calls(backend: Backend) -> None:
    backend.respond = lambda connection, stream_id: connection.abort()
    async with pool_to(backend) as pool:
        with pytest.raises(Reset):
            await pool.exchange(call())
        assert calls_in(pool) == 0


async def test_a_repeatable_call_survives_a_broken_connection(backend: Backend) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        backend.respond = Connection.answer
        connection.abort()

    backend.respond = respond
    async with pool_to(backend) as pool:
        repeatable = call()
        repeatable.idempotent = True
        assert (await pool.exchange(repeatable)).body == b"hello"


async def test_an_answer_that_breaks_off_fails_its_stream(backend: Backend) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, HEAD)
        connection.session.send_data(stream_id, b"first")

    backend.respond = respond
    async with pool_to(backend) as pool:
        reply = await pool.exchange(call())
        assert isinstance(reply.body, Stream)
        assert await reply.body.read() == b"first"
        backend.connections[0].session.reset(1, ErrorCode.INTERNAL_ERROR)
        backend.connections[0].wake()
        with pytest.raises(StreamReset):
            await reply.body.read()


async def test_an_answer_that_is_given_up_is_reset(backend: Backend) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, HEAD)

    backend.respond = respond
    async with pool_to(backend) as pool:
        reply = await pool.exchange(call())
        assert isinstance(reply.body, Stream)
        reply.body.abandon()
        await until(lambda: backend.connections[0].resets == {1: ErrorCode.CANCEL})
        assert calls_in(pool) == 0


async def test_a_cancelled_call_is_reset(backend: Backend) -> None:
    backend.respond = lambda connection, stream_id: None
    async with pool_to(backend) as pool:
        waiting = asyncio.create_task(pool.exchange(call()))  # noqa: TID251  the test owns it
        await until(lambda: bool(backend.connections and backend.connections[0].requests))
        waiting.cancel()
        await until(lambda: backend.connections[0].resets == {1: ErrorCode.CANCEL})
        assert calls_in(pool) == 0


async def test_ten_thousand_cancelled_calls_leave_nothing(backend: Backend) -> None:
    backend.respond = lambda connection, stream_id: None
    backend.limits = Limits(streams=10_000, reset_burst=20_000)
    async with pool_to(backend, {"streams": 10_000}) as pool:
        for _ in range(20):
            waiting = [asyncio.create_task(pool.exchange(call())) for _ in range(500)]  # noqa: TID251  owned here
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        backend.respond = Connection.answer
        assert (await pool.exchange(call())).body == b"hello"
        (channel,) = pool._core.channels
        assert (channel.load, len(channel.exchanges), channel.session.active) == (0, 0, 0)
        await until(lambda: backend.connections[0].session.active == 0)


async def test_nobody_listens() -> None:
    backend = Backend()
    async with backend.running():
        pass
    async with pool_to(backend) as pool:
        with pytest.raises(ConnectFailed):
            await pool.exchange(call())


async def test_a_backend_that_speaks_something_else() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    backend = Backend()
    backend.port = server.sockets[0].getsockname()[1]
    async with server, pool_to(backend) as pool:
        with pytest.raises((BadReply, Reset)):
            await pool.exchange(call())


async def test_a_flood_of_resets_costs_each_call_and_no_more(backend: Backend) -> None:
    backend.respond = resetting(ErrorCode.INTERNAL_ERROR)
    async with pool_to(backend, {"streams": 1000}) as pool:
        outcomes = await asyncio.gather(*(pool.exchange(call()) for _ in range(1000)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StreamReset}
        (channel,) = pool._core.channels
        assert (channel.load, len(channel.exchanges), channel.session.active) == (0, 0, 0)
        backend.respond = Connection.answer
        assert (await pool.exchange(call())).body == b"hello"


async def test_goaway_in_the_middle_of_an_answer_lets_it_end(backend: Backend) -> None:
    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, HEAD)
        connection.session.send_data(stream_id, b"first")
        connection.session.close()

    backend.respond = respond
    async with pool_to(backend) as pool:
        reply = await pool.exchange(call())
        assert isinstance(reply.body, Stream)
        assert await reply.body.read() == b"first"
        backend.connections[0].session.send_data(1, b"last", end=True)
        backend.connections[0].wake()
        assert await reply.body.read() == b"last"
        assert await reply.body.read() == b""
        await until(lambda: pool.snapshot()["draining"] == 0)


WHOLE = """version: 1
server:
  http: {{listen: "127.0.0.1:0"}}
  grpc: {{listen: "127.0.0.1:0"}}
  admin: {{listen: "127.0.0.1:0"}}
upstreams: {{model: {{grpc: ["127.0.0.1:{port}"], health: {{path: tcp}}, pool: {{grpc: {{min: 1, max: 1}}}}}}}}
loading: {{mode: "off"}}
observe: {{access_log: {{format: "off"}}}}
"""


@pytest.mark.slow
async def test_ten_thousand_calls_that_clients_cancel_leave_nothing(backend: Backend) -> None:
    """Half of them are on their way, half wait for a channel."""
    backend.limits = Limits(streams=100, reset_burst=20_000)
    backend.respond = lambda connection, stream_id: None
    async with serving(WHOLE.format(port=backend.port)) as app:
        assert app.grpc is not None
        host, _, port = app.grpc.address.rpartition(":")
        links = app.grpc._links
        for _ in range(50):
            _, writer = await asyncio.open_connection(host, int(port))
            client = ClientSession(Limits())
            block = WRITER.request(b"POST", b"http", b"/t.T/M", HEADERS)
            streams = [client.open_whole(block, b"hello") for _ in range(200)]
            writer.write(client.data_to_send())
            await until(lambda: any(len(link._calls) == 200 for link in links))
            for stream_id in streams:
                client.reset(stream_id)
            writer.write(client.data_to_send())
            await until(lambda: not any(link._calls for link in links))
            writer.close()
        await until(lambda: not any(connection.session.active for connection in backend.connections))
        backend.respond = Connection.answer
        pipeline = app.grpc.pipeline
        reply = await pipeline.serve(call())
        assert reply.body == b"hello"
        assert app.grpc.ledger.used == 0
        assert pipeline._admission.in_flight == 0  # type: ignore[attr-defined]  # the real one has it
