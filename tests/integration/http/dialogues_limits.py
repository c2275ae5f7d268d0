"""Slow, greedy and hostile clients."""

from __future__ import annotations

import asyncio
import contextlib

from tests.integration.http.conformance import Backend
from tests.integration.http.dialogues import CHUNKED, GET, backend, dialogue, fill
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S, until
from tests.support.wire import response


async def _drip(client: RawClient, piece: bytes) -> bytes:
    """Send `piece` again and again until the other side has closed; what it said."""

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await client.send(piece)
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        dripping = group.create_task(send())
        answer = await client.read_to_end()
        dripping.cancel()
    return answer


@dialogue(
    "S3",
    "a head that comes byte by byte",
    sent="GET, then a byte of a field now and then",
    expected="client: 408, closed once the head's time is over",
)
async def slow_head() -> str:
    async with backend(timeouts={"header": "100ms"}) as scene, scene.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nA: ")
        answer = await _drip(client, b"a")
        return f"client: {answer.split(b' ')[1].decode()}, closed once the head's time is over"


@dialogue("S3", "a connection without a byte", sent="nothing", expected="client: closed without a word")
async def silent_client() -> str:
    async with backend(timeouts={"header": "50ms"}) as scene, scene.client() as client:
        return f"client: closed {'without a word' if await client.read_to_end() == b'' else 'with words'}"


@dialogue(
    "S3", "an idle connection", sent="GET, then nothing", expected="client: 200, then closed without a word"
)
async def idle_client() -> str:
    async with backend(timeouts={"keepalive": "50ms"}) as scene, scene.client() as client:
        await client.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(response(b"ok"))
        answer = await client.receive()
        assert await client.read_to_end() == b""
        return f"client: {answer.status}, then closed without a word"


@dialogue(
    "S3",
    "a body that stops coming",
    sent="5 of 9 bytes",
    expected="client: 408, closed · backend: gone · everything freed",
)
async def stalled_body() -> str:
    async with backend(timeouts={"body_stall": "100ms"}) as scene, scene.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhello")
        peer = await scene.peer()
        await peer.head()
        answer = await client.receive()
        assert await client.read_to_end() == b""
        await peer.gone()
        return f"client: {answer.status}, closed · backend: gone · {await scene.at_rest()}"


@dialogue(
    "S4",
    "a client that does not read its answer",
    sent="GET",
    expected=("backend: gone once nothing was taken for a while · under 2 MiB were held · everything freed"),
)
async def client_that_does_not_read() -> str:
    async with backend(timeouts={"write_stall": "200ms"}) as scene:
        client = await RawClient(scene.front.url, receive_buffer=4096).__aenter__()
        await client.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(CHUNKED)
        most = 0
        with contextlib.suppress(ConnectionError):
            while True:
                peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                most = max(most, scene.front.ledger.used)
                async with asyncio.timeout(PATIENCE_S):
                    await peer.writer.drain()
        client.vanish()
        held = "under 2 MiB were held" if most < 2 << 20 else f"{most} bytes were held"
        return f"backend: gone once nothing was taken for a while · {held} · {await scene.at_rest()}"


@dialogue(
    "S6", "20,000 chunks of one byte", sent="a chunked POST", expected="backend: 20000 bytes · client: 200"
)
async def tiny_chunks() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer = await scene.peer()
        await peer.head()
        async with asyncio.TaskGroup() as group:
            group.create_task(client.send(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"))
            size = 0
            while (line := await peer.until(b"\r\n")) != b"0\r\n":
                size += len(await peer.exactly(int(line, 16) + 2)) - 2
            peer.send(response(b"ok"))
        answer = await client.receive()
        return f"backend: {size} bytes · client: {answer.status}"


@dialogue(
    "S8",
    "bodies fill the memory set aside",
    sent="1 MB to a backend that does not read; another POST",
    expected="the other client: 503 buffers_full, Retry-After: 1; once the first is gone, 200",
)
async def full_buffers() -> str:
    async with backend(limits={"buffered": "64KiB"}) as scene, scene.client() as other:
        first = await scene.client().__aenter__()
        await first.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n")
        await (await scene.peer()).head()

        await fill(first)
        refused = await other.ask(b"POST", b"/", b"x")
        reason = (refused.header(b"proxy-status") or b"").partition(b'details="')[2].rstrip(b'"').decode()
        wait = (refused.header(b"retry-after") or b"").decode()
        first.reset()
        await scene.at_rest()
        await other.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(response(b"ok"))
        answer = await other.receive()
        return (
            f"the other client: {refused.status} {reason}, Retry-After: {wait}; "
            f"once the first is gone, {answer.status}"
        )


@dialogue(
    "S5",
    "beginnings of heads fill the memory set aside",
    sent="40 KiB of a head, on each of two connections; a GET once they are gone",
    expected="the second client: 503 buffers_full, closed; everything freed",
)
async def heads_that_do_not_end() -> str:
    begun = b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: %b\r\n" % (b"a" * 4000) * 10
    async with backend(limits={"buffered": "64KiB"}) as scene:
        async with scene.client() as first, scene.client() as second:
            await first.send(begun)
            await until(lambda: scene.front.ledger.used > 40_000)
            await second.send(begun)
            refused = await second.receive()
            assert await second.read_to_end() == b""
        reason = (refused.header(b"proxy-status") or b"").partition(b'details="')[2].rstrip(b'"').decode()
        return f"the second client: {refused.status} {reason}, closed; {await scene.at_rest()}"


@dialogue(
    "39",
    "thousands of requests in one piece",
    sent="4,000 GETs, FIN, while the backend does not answer the first",
    expected="what waits is bytes: over 50 KB of them · client: 4000 answers, closed · everything freed",
)
async def deep_pipeline() -> str:
    async with (
        Backend([response(b"ok")]) as server,
        stage(server.url) as front,
        RawClient(front.url) as client,
    ):
        server.hold()
        await client.send(GET * 4000)
        client.half_close()
        await until(lambda: front.ledger.used > 50_000)
        server.let_go()
        for _ in range(4000):
            assert (await client.receive()).body == b"ok"
        assert await client.read_to_end() == b""
        await until(lambda: front.is_at_rest)
        return "what waits is bytes: over 50 KB of them · client: 4000 answers, closed · everything freed"


@dialogue(
    "S15",
    "more connections than the limit",
    sent="a third connection where two are allowed",
    expected="client: 503, closed; the others are served",
)
async def too_many_connections() -> str:
    async with backend(limits={"connections": 2}) as scene, scene.client() as first, scene.client() as second:
        for client in (first, second):
            await client.send(GET)
        async with scene.client() as third:
            refused = await third.receive()
            assert await third.read_to_end() == b""
        for _ in range(2):
            peer = await scene.peer()
            await peer.head()
            peer.send(response(b"ok"))
        for client in (first, second):
            assert (await client.receive()).body == b"ok"
        return f"client: {refused.status}, closed; the others are served"
