"""The HTTP listener over a real socket, with a pipeline of the test's own behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from proxy.config.addresses import Address
from proxy.errors import Overloaded, ProxyError, Reset
from proxy.exchange import Call, Reply, Stream
from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy
from proxy.ingress.rules import HeadRules
from proxy.ingress.server import HttpServer
from tests.support.recorded_flow import RecordedFlow
from tests.support.waiting import PATIENCE_S

Handler = Callable[[Call], Awaitable[Reply]]


class Pipeline:
    """Answers with whatever the test's coroutine says; remembers the calls and how they ended."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()

    def refuse(self, call: Call, error: ProxyError) -> None:
        self.refused.append(error.reason)

    async def serve(self, call: Call) -> Reply:
        self.calls.append(call)
        self.called.set()
        try:
            return await self._handler(call)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def without_ours(data: bytes) -> bytes:
    """`data` less the field lines that every answer gets."""
    return re.sub(rb"(?m)^(?:Date|Via|X-Request-Id): [^\r]*\r\n", b"", data)


def place_of(server: HttpServer) -> tuple[str, int]:
    host, _, port = server.address.removeprefix("http://").rpartition(":")
    return host, int(port)


class Client:
    """A raw socket that reads answers by their framing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[bytes, bytes]:
        """(head, body) of one answer with Content-Length."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            body = await self.reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        return without_ours(head), body

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return without_ours(await self.reader.read(-1))


@asynccontextmanager
async def serving(handler: Handler, **limits: int) -> AsyncIterator[tuple[Client, Pipeline, HttpServer]]:
    pipeline = Pipeline(handler)
    policy = LimitPolicy.model_construct(**{**LimitPolicy().__dict__, **limits})
    server = HttpServer(pipeline, Address("127.0.0.1", 0), HeadRules(policy), ServerTimeoutPolicy())
    await server.start()
    host, port = place_of(server)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Client(reader, writer), pipeline, server
    finally:
        writer.close()
        await server.stop()


async def echo(call: Call) -> Reply:
    body = call.body
    if isinstance(body, Stream):
        whole = b""
        while chunk := await body.read():
            whole += chunk
        body = whole
    return Reply(200, ((b"X-Target", call.target),), call.method + b" " + body)


GET = b"GET /a%2Fb?q=%20 HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with serving(echo) as (client, _, _):
        client.send(GET + b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi" + GET)
        head, body = await client.answer()
        assert head == b"HTTP/1.1 200 OK\r\nX-Target: /a%2Fb?q=%20\r\nContent-Length: 4\r\n\r\n"
        assert body == b"GET "
        assert (await client.answer())[1] == b"POST hi"
        assert (await client.answer())[1] == b"GET "


async def test_many_pipelined_requests_are_all_answered() -> None:
    async with serving(echo) as (client, pipeline, _):
        client.send(GET * 500)
        for _ in range(500):
            await client.answer()
        client.send(GET)
        await client.answer()
        assert len(pipeline.calls) == 501


async def test_a_large_upload_reaches_the_pipeline_as_a_stream() -> None:
    async with serving(echo) as (client, pipeline, _):
        payload = bytes(range(256)) * 8192
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)
        assert (await client.answer())[1] == b"PUT " + payload
        assert isinstance(pipeline.calls[0].body, Stream)


async def test_whoever_reads_the_body_here_lets_the_client_send() -> None:
    async def read_here(call: Call) -> Reply:
        call.claim_body()
        return await echo(call)

    async with serving(read_here) as (client, pipeline, _):
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.answer())[1] == b"PUT ok"
        assert pipeline.calls[0].header(b"expect") is None


async def test_a_streamed_answer_is_chunked_and_keeps_its_trailers() -> None:
    async def stream(call: Call) -> Reply:
        body = Stream(None)
        body.feed(b"abc")
        asyncio.get_running_loop().call_soon(body.feed, b"defg")
        asyncio.get_running_loop().call_later(0.01, body.end, ((b"X-Sum", b"7"),))
        return Reply(200, ((b"Trailer", b"X-Sum"),), body)

    async with serving(stream) as (client, _, _):
        client.send(GET + b"GET /2 HTTP/1.0\r\n\r\n")
        data = await client.rest()
        assert data == (
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\nabcdefg"
        )


async def test_a_streamed_answer_of_known_length_keeps_the_connection() -> None:
    async def stream(call: Call) -> Reply:
        body = Stream(None, 3)
        asyncio.get_running_loop().call_soon(body.feed, b"abc")
        asyncio.get_running_loop().call_soon(body.end)
        return Reply(200, (), body)

    async with serving(stream) as (client, _, _):
        for _ in range(2):
            client.send(GET)
            assert (await client.answer())[1] == b"abc"


async def test_an_answer_that_breaks_off_is_never_ended_cleanly() -> None:
    async def stream(call: Call) -> Reply:
        body = Stream(None)
        body.feed(b"abc")
        asyncio.get_running_loop().call_later(0.01, body.fail, Reset("gone"))
        return Reply(200, (), body)

    async with serving(stream) as (client, _, _):
        client.send(GET)
        await client.reader.readuntil(b"abc\r\n")
        with pytest.raises(ConnectionResetError):
            await client.rest()


@pytest.mark.parametrize(
    ("request_head", "status", "body_follows"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200, False),
        (GET, 204, False),
        (GET, 304, False),
        (GET, 200, True),
    ],
)
async def test_answers_without_a_body_end_with_their_head(
    request_head: bytes, status: int, body_follows: bool
) -> None:
    async def answer(call: Call) -> Reply:
        return Reply(
            status, (), b"xyz" if body_follows else b"", declared_length=7 if status != 204 else None
        )

    async with serving(answer) as (client, _, _):
        client.send(request_head * 2)
        for _ in range(2):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert (b"Content-Length: 7" in head) == (not body_follows and status != 204)
            assert (b"Content-Length: 3" in head) == body_follows
            if body_follows:
                assert await client.reader.readexactly(3) == b"xyz"


async def test_the_pipelines_refusal_is_worded_in_the_dialect_of_the_route() -> None:
    async def shed(call: Call) -> Reply:
        call.dialect = "openai"
        raise Overloaded("too much", retry_after_s=0.2)

    async with serving(shed) as (client, _, _):
        client.send(GET)
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"Retry-After: 1\r\n" in head
        assert b'Proxy-Status: pillion; details="overloaded"\r\n' in head
        assert (
            body
            == b'{"error":{"message":"too much","type":"invalid_request_error","param":null,"code":"overloaded"}}'
        )


async def test_a_fault_of_ours_is_answered_500_and_the_next_request_is_served() -> None:
    failures = [ValueError("secret detail")]

    async def fail_once(call: Call) -> Reply:
        if failures:
            raise failures.pop()
        return Reply(200, (), b"fine")

    async with serving(fail_once) as (client, _, _):
        client.send(GET + GET)
        head, body = await client.answer()
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in body
        assert (await client.answer())[1] == b"fine"


async def test_a_malformed_request_is_refused_and_nothing_behind_it_is_served() -> None:
    async with serving(echo) as (client, pipeline, _):
        client.send(GET + b"BAD secret-token\r\n\r\n" + GET)
        assert (await client.answer())[1] == b"GET "
        data = await client.rest()
        assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"Connection: close\r\n" in data
        assert b"secret" not in data
        assert len(pipeline.calls) == 1


async def test_a_body_over_the_limit_is_refused_before_anybody_sees_it() -> None:
    async with serving(echo, body=10) as (client, pipeline, _):
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 413 ")
        assert pipeline.calls == []


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def refuse(call: Call) -> Reply:
        return Reply(403, (), b"no")

    async with serving(refuse) as (client, _, _):
        client.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000)
        head, body = await client.answer()
        assert b"Connection: close" in head
        client.send(b"x" * 300_000)
        assert body == b"no"
        assert await client.rest() == b""


async def test_a_client_that_leaves_cancels_its_call() -> None:
    async def never(call: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(never) as (client, pipeline, _):
        client.send(GET)
        await pipeline.called.wait()
        client.writer.close()
        async with asyncio.timeout(PATIENCE_S):
            await pipeline.cancelled.wait()


async def test_a_client_that_leaves_mid_stream_abandons_the_body() -> None:
    closed = asyncio.Event()

    async def endless(call: Call) -> Reply:
        body = Stream(None)
        body.feed(b"x")
        body.on_close(closed.set)
        return Reply(200, (), body)

    async with serving(endless) as (client, _, _):
        client.send(GET)
        await client.reader.readuntil(b"x")
        client.writer.close()
        async with asyncio.timeout(PATIENCE_S):
            await closed.wait()


async def test_a_slow_reader_pauses_the_source() -> None:
    flow = RecordedFlow()
    bodies: list[Stream] = []

    async def bulk(call: Call) -> Reply:
        bodies.append(Stream(flow))
        return Reply(200, (), bodies[0])

    async with serving(bulk) as (client, _, _):
        client.send(GET)
        await client.reader.readuntil(b"\r\n\r\n")
        sent = 0
        while "pause" not in flow.asked:
            bodies[0].feed(b"x" * 65536)
            sent += 65536
            await asyncio.sleep(0)
        bodies[0].end()
        data = await client.reader.readuntil(b"0\r\n\r\n") if sent < 60_000 else await _read_all(client)
        assert data.count(b"x") == sent


async def _read_all(client: Client) -> bytes:
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += await client.reader.read(1 << 20)
    return data


async def test_draining_answers_what_was_admitted_and_closes() -> None:
    release = asyncio.Event()

    async def hold(call: Call) -> Reply:
        await release.wait()
        return Reply(200, (), b"kept")

    async with serving(hold) as (client, pipeline, server):
        client.send(GET)
        await pipeline.called.wait()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(server.drain(loop.time() + 5))
            loop.call_soon(release.set)
            head, body = await client.answer()
        assert b"Connection: close" in head
        assert body == b"kept"
        assert await client.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*place_of(server))


async def test_draining_closes_idle_connections() -> None:
    async with serving(echo) as (client, _, server):
        client.send(GET)
        await client.answer()
        await server.drain(asyncio.get_running_loop().time() + 5)
        assert await client.rest() == b""


async def test_an_idle_connection_is_closed_after_keepalive() -> None:
    server = HttpServer(
        Pipeline(echo),
        Address("127.0.0.1", 0),
        HeadRules(LimitPolicy()),
        ServerTimeoutPolicy.model_construct(keepalive=0.02),
    )
    await server.start()
    host, port = place_of(server)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(GET)
    await reader.readuntil(b"GET ")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()
    await server.stop()
