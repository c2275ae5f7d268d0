"""Upgrades, connections that are used again, and failures on the way."""

from __future__ import annotations

import asyncio

from tests.integration.http.conformance import Backend
from tests.integration.http.dialogues import CHUNKED, GET, Scene, backend, dialogue, field_of, url_of
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.wire import RawMessage, response

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: k\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
NOISE = bytes(range(256)) * 64


async def _read(client: RawClient, size: int) -> bytes:
    seen = b""
    while len(seen) < size:
        data = await client.read_some()
        assert data, f"the end after {seen!r}"
        seen += data
    return seen


@dialogue(
    "42",
    "a WebSocket is a tunnel of raw bytes",
    sent="Upgrade and bytes right behind it; 16 KiB of any bytes",
    expected="backend: Upgrade: websocket, the bytes behind, 16 KiB equal · "
    "client: 101, extensions kept, 16 KiB equal",
)
async def tunnel_of_raw_bytes() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPGRADE + b"early")
        peer = await scene.peer()
        head = await peer.head()
        peer.send(SWITCH + b"first")
        assert await peer.exactly(5) == b"early"
        answer = await client.receive(skip_interim=False)
        assert await _read(client, 5) == b"first"
        await client.send(NOISE)
        assert await peer.exactly(len(NOISE)) == NOISE
        peer.send(NOISE)
        assert await _read(client, len(NOISE)) == NOISE
        assert answer.header(b"sec-websocket-extensions") == b"permessage-deflate"
        assert answer.header(b"connection") == b"Upgrade"
        assert answer.header(b"content-length") is answer.header(b"transfer-encoding") is None
        upgrade = field_of(head, b"Upgrade")
        return (
            f"backend: {upgrade}, the bytes behind, 16 KiB equal · "
            f"client: {answer.status}, extensions kept, 16 KiB equal"
        )


@dialogue(
    "42",
    "either side of a tunnel may close its half",
    sent="Upgrade, bytes, FIN",
    expected="backend: FIN, then speaks on · client: the rest, FIN · everything freed",
)
async def half_closed_tunnel() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPGRADE)
        peer = await scene.peer()
        await peer.head()
        peer.send(SWITCH)
        await client.receive(skip_interim=False)
        await client.send(b"bye")
        client.half_close()
        assert await peer.exactly(3) == b"bye"
        assert await peer.gone() == "closed"
        peer.send(b"the rest")
        peer.writer.close()
        assert await client.read_to_end() == b"the rest"
        return f"backend: FIN, then speaks on · client: the rest, FIN · {await scene.at_rest()}"


@dialogue(
    "42",
    "the client of a tunnel is gone",
    sent="Upgrade, bytes, RST",
    expected="backend: gone · everything freed",
)
async def broken_tunnel() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPGRADE)
        peer = await scene.peer()
        await peer.head()
        peer.send(SWITCH)
        await client.receive(skip_interim=False)
        client.reset()
        await peer.gone()
        return f"backend: gone · {await scene.at_rest()}"


@dialogue(
    "43",
    "a WebSocket is told when the proxy leaves",
    sent="Upgrade; the proxy is told to drain",
    expected="client: a frame in hand to its end, then close 1001, FIN",
)
async def drained_tunnel() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPGRADE)
        peer = await scene.peer()
        await peer.head()
        peer.send(SWITCH + b"\x81\x02hi\x82\x7e\x00\x80" + b"x" * 100)  # a frame of 128 bytes begins
        await client.receive(skip_interim=False)
        await _read(client, 108)
        loop = asyncio.get_running_loop()
        draining = loop.create_task(scene.front.server.drain(loop.time() + 5))
        await asyncio.sleep(0)
        peer.send(b"y" * 28 + b"\x81\x01z")
        rest = await client.read_to_end()
        client.half_close()
        assert await peer.gone() == "closed"
        peer.writer.close()
        await draining
        assert rest == b"y" * 28 + b"\x88\x02\x03\xe9", rest
        return "client: a frame in hand to its end, then close 1001, FIN"


# ------------------------------------------------------------------ connections used again
@dialogue(
    "44",
    "bytes that nobody asked for reach nobody",
    sent="GET; after its answer the backend speaks again; GET",
    expected="the second answer is the second's · 2 connections",
)
async def unsolicited_bytes() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        first = await scene.peer()
        await first.head()
        first.send(response(b"one"))
        assert (await client.receive()).body == b"one"
        first.send(response(b"poison"))
        await first.gone()
        await client.send(GET)
        second = await scene.peer()
        await second.head()
        second.send(response(b"two"))
        assert (await client.receive()).body == b"two"
        return "the second answer is the second's · 2 connections"


@dialogue(
    "45",
    "a backend that closes behind each answer",
    sent="100 POSTs",
    expected="100 answers, each request once",
)
async def stale_connections() -> str:
    seen = 0

    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await reader.readuntil(b"\r\n\r\n")
        seen += 1
        writer.write(response(b"ok"))
        writer.close()

    server = await asyncio.start_server(answer_and_close, "127.0.0.1", 0)
    url = url_of(server)
    async with server, stage(url) as front, RawClient(front.url) as client:
        answers = [await client.ask(b"POST", b"/p") for _ in range(100)]
    assert all(answer.body == b"ok" for answer in answers)
    return f"{len(answers)} answers, each request {'once' if seen == 100 else 'not once'}"


@dialogue(
    "46",
    "nothing is sent twice once an answer has begun",
    sent="GET",
    expected="client: a part, then a reset · the backend saw it once",
)
async def no_retry_of_begun_answers() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(CHUNKED + b"3\r\none\r\n")
        await client.read_some()
        peer.writer.close()
        try:
            await client.read_to_end()
        except ConnectionResetError:
            return f"client: a part, then a reset · {await _seen_once(scene)}"
        return "client: an end"


async def _seen_once(scene: Scene) -> str:
    await scene.at_rest()
    return "the backend saw it once" if scene.is_without_more else "the backend saw it again"


@dialogue(
    "12",
    "the backend's own name, or a fixed one, as Host",
    sent="GET with Host: h",
    expected="backend: its own authority · backend: Host: fixed.example",
)
async def host_policies() -> str:
    seen = []
    async with Backend([response(b"ok")]) as server:
        for host in (b"", b"fixed.example"):
            async with stage(server.url, host=host) as front, RawClient(front.url) as client:
                await client.ask()
            seen.append(server.requests[-1].all(b"host"))
        own = [server.url.removeprefix("http://").encode()]
        assert seen[0] == own
        return f"backend: its own authority · backend: Host: {b', '.join(seen[1]).decode()}"


def _error_type(answer: RawMessage) -> str:
    return (answer.header(b"proxy-status") or b"").decode().partition("error=")[2].partition(";")[0]


@dialogue("48", "the backend cannot be reached", sent="GET", expected="client: 503 destination_unavailable")
async def unreachable() -> str:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    url = url_of(server)
    server.close()
    await server.wait_closed()
    async with stage(url) as front, RawClient(front.url) as client:
        answer = await client.ask()
    return f"client: {answer.status} {_error_type(answer)}"


@dialogue(
    "48",
    "the deadline passes",
    sent="GET with X-Request-Timeout: 50ms",
    expected="client: 504 http_response_timeout",
)
async def deadline() -> str:
    async with backend() as scene, scene.client() as client:
        answer = await client.ask(b"GET", b"/", b"", b"X-Request-Timeout: 50ms")
        return f"client: {answer.status} {_error_type(answer)}"


@dialogue(
    "48",
    "more calls than are admitted",
    sent="two GETs at once where one is admitted",
    expected="client: 429, Retry-After: 1",
)
async def overload() -> str:
    async with backend(limits={"inflight": 1}) as scene, scene.client() as first, scene.client() as second:
        await first.send(GET)
        await (await scene.peer()).head()
        answer = await second.ask()
        return f"client: {answer.status}, Retry-After: {(answer.header(b'retry-after') or b'').decode()}"
