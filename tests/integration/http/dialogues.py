"""Exchanges in which the order matters: who may speak before whom, and who leaves when.

Each dialogue is a coroutine that plays it and tells in one line what was seen; the line it should be stands
beside it, as in the tables."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.raw_client import RawClient
from tests.support.stage import Stage, stage
from tests.support.waiting import PATIENCE_S, standstill, stop_accepting, until
from tests.support.wire import response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("DIALOGUES", "Dialogue", "Peer", "Scene", "backend", "dialogue", "field_of", "fill", "url_of")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One exchange: what is sent and expected, in words, and the coroutine that tells what was seen."""

    item: str
    title: str
    sent: str
    expected: str
    play: Callable[[], Awaitable[str]]


DIALOGUES: list[Dialogue] = []


def dialogue(
    item: str, title: str, *, sent: str, expected: str
) -> Callable[[Callable[[], Awaitable[str]]], Callable[[], Awaitable[str]]]:
    """Enter the decorated coroutine in the list."""

    def enter(play: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        DIALOGUES.append(Dialogue(item, title, sent, expected, play))
        return play

    return enter


class Peer:
    """One connection of the backend, driven by the dialogue."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request's head."""
        return await self.until(b"\r\n\r\n")

    async def until(self, end: bytes) -> bytes:
        """What comes, up to `end`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        """`size` bytes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(size)

    def send(self, data: bytes) -> None:
        """Write exactly these bytes."""
        self.writer.write(data)

    async def gone(self) -> str:
        """How the other side left."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                return "reset"
        return "closed"


class Scene:
    """A backend that hands its connections to the dialogue, and a proxy in front of it."""

    def __init__(self, front: Stage, connections: asyncio.Queue[Peer]) -> None:
        self.front = front
        self._connections = connections

    async def peer(self) -> Peer:
        """The next connection that the proxy opens."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._connections.get()

    @property
    def is_without_more(self) -> bool:
        """True when the proxy has opened no connection that the dialogue has not taken."""
        return self._connections.empty()

    def client(self, **options: int) -> RawClient:
        """A client of the proxy."""
        return RawClient(self.front.url, **options)

    async def at_rest(self) -> str:
        """Once nothing is held for any call any more."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.front.is_at_rest:  # noqa: ASYNC110  there is no event for what is no longer there
                await asyncio.sleep(0.001)
        return "everything freed"


async def fill(client: RawClient) -> None:
    """Send until every buffer on the way is full."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await client.send(b"x" * 65536)
            sent += 65536

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        await until(lambda: sent > 0)
        await standstill(lambda: sent)
        sending.cancel()


def url_of(server: asyncio.Server) -> str:
    """Where `server` listens."""
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def backend(protocol: str = "generic", **server: object) -> AsyncIterator[Scene]:
    """The scene of one dialogue."""
    connections: asyncio.Queue[Peer] = asyncio.Queue()
    peers: list[Peer] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(Peer(reader, writer))
        connections.put_nowait(peers[-1])

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        url = url_of(listener)
        async with stage(url, protocol=protocol, server=server) as front:
            yield Scene(front, connections)
    finally:
        await stop_accepting(listener)
        for peer in peers:
            peer.writer.close()
        await listener.wait_closed()


def field_of(head: bytes, name: bytes) -> str:
    """The field `name` of a head, or a word that there is none."""
    lines = [line for line in head.split(b"\r\n") if line.lower().startswith(name.lower() + b":")]
    return lines[0].decode() if lines else f"no {name.decode()}"


GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
UPLOAD = b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


# ------------------------------------------------------------------ interim answers
@dialogue(
    "32",
    "100-continue, end to end",
    sent="head with Expect; after the 100: {hello}",
    expected="backend: Expect: 100-continue, body after its 100 · client: 100, 200 {done}",
)
async def continue_end_to_end() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPLOAD + b"Expect: 100-continue\r\n\r\n")
        peer = await scene.peer()
        expectation = field_of(await peer.head(), b"Expect")
        peer.send(CONTINUE)
        interim = await client.receive(skip_interim=False)
        await client.send(b"hello")
        assert await peer.exactly(5) == b"hello"
        peer.send(response(b"done"))
        final = await client.receive(skip_interim=False)
        return (
            f"backend: {expectation}, body after its 100 · "
            f"client: {interim.status}, {final.status} {{{final.body.decode()}}}"
        )


@dialogue(
    "32",
    "the backend refuses before the body",
    sent="head with Expect",
    expected="client: 413, closed · backend: reset or closed · everything freed",
)
async def refused_before_the_body() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(UPLOAD + b"Expect: 100-continue\r\n\r\n")
        peer = await scene.peer()
        await peer.head()
        peer.send(response(b"", status=b"413 Content Too Large"))
        answer = await client.receive(skip_interim=False)
        assert await client.read_to_end() == b""
        assert await peer.gone() in {"reset", "closed"}
        return f"client: {answer.status}, closed · backend: reset or closed · {await scene.at_rest()}"


@dialogue(
    "32",
    "the body is wanted here, for a batch",
    sent="head with Expect; after the 100: {[[1]]}",
    expected="client: 100, 200 · backend: no Expect",
)
async def continue_for_a_batch() -> str:
    body = b'{"instances": [[1]]}'
    async with backend(protocol="kserve-v1") as scene, scene.client() as client:
        head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
        await client.send(head % len(body))
        interim = await client.receive(skip_interim=False)
        await client.send(body)
        peer = await scene.peer()
        seen = await peer.head()
        peer.send(response(b'{"predictions": [1]}', b"Content-Type: application/json"))
        final = await client.receive(skip_interim=False)
        return f"client: {interim.status}, {final.status} · backend: {field_of(seen, b'Expect')}"


@dialogue("33", "102 and 103 are relayed", sent="GET", expected="client: 102, 103 Link: </a>, 200 {ok}")
async def interim_answers() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"ok")
        )
        first, second, final = [await client.receive(skip_interim=False) for _ in range(3)]
        link = (second.header(b"link") or b"").decode()
        return (
            f"client: {first.status}, {second.status} Link: {link}, {final.status} {{{final.body.decode()}}}"
        )


@dialogue(
    "33",
    "an HTTP/1.0 client gets no interim answer",
    sent="GET of HTTP/1.0",
    expected="client: 200 {ok}, closed",
)
async def no_interim_answers_to_old_clients() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        peer = await scene.peer()
        await peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"ok"))
        answer = await client.receive(skip_interim=False)
        assert await client.read_to_end() == b""
        return f"client: {answer.status} {{{answer.body.decode()}}}, closed"


# ------------------------------------------------------------------ both ways at once
@dialogue(
    "34",
    "an answer before the upload's end",
    sent="head and a part of 1 MB",
    expected="client: 403 {no}, closed · backend: closed before the end of the upload",
)
async def early_answer() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        peer = await scene.peer()
        await peer.head()
        peer.send(response(b"no", status=b"403 Forbidden"))
        answer = await client.receive()
        await client.send(b"x" * 1000)
        assert await client.read_to_end() == b""
        await peer.gone()
        body = answer.body.decode()
        return f"client: {answer.status} {{{body}}}, closed · backend: closed before the end of the upload"


@dialogue(
    "35",
    "full duplex",
    sent="chunk {ping1}, then {ping2} after the answer to it",
    expected="client: {ping1} before it sends {ping2}, then {ping2}, end",
)
async def full_duplex() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(
            b"POST /chat HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nping1\r\n"
        )
        peer = await scene.peer()
        await peer.head()
        assert await peer.until(b"\r\nping1\r\n") == b"5\r\nping1\r\n"
        peer.send(CHUNKED + b"5\r\nping1\r\n")
        seen = b""
        while not seen.endswith(b"ping1\r\n"):
            seen += await client.read_some()
        await client.send(b"5\r\nping2\r\n0\r\n\r\n")
        assert await peer.until(b"0\r\n\r\n") == b"5\r\nping2\r\n0\r\n\r\n"
        peer.send(b"5\r\nping2\r\n0\r\n\r\n")
        rest = await client.read_to_end()
        assert rest == b"5\r\nping2\r\n0\r\n\r\n"
        return "client: {ping1} before it sends {ping2}, then {ping2}, end"


@dialogue(
    "37",
    "each event is passed on at once",
    sent="GET",
    expected="client: one, two, three, each before the next was written",
)
async def events_are_flushed() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        peer = await scene.peer()
        await peer.head()
        peer.send(CHUNKED)
        seen = b""
        for word in (b"one", b"two", b"three"):
            peer.send(b"%x\r\n%b\r\n" % (len(word), word))
            while not seen.endswith(word + b"\r\n"):
                seen += await client.read_some()
        return "client: one, two, three, each before the next was written"
