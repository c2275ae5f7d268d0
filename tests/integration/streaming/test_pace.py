"""The slower side sets the pace: bounded memory on the way, nothing held back."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import backend
from tests.support.raw_client import RawClient
from tests.support.stage import Stage, stage
from tests.support.waiting import standstill, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
PIECE = bytes(range(256)) * 256
MiB = 1 << 20
# The backend's own send buffer takes up to 4 MiB on loopback before it notices anything.
AHEAD = 5 * MiB


class Source:
    """Answers with `size` bytes as fast as it may; or reads a body only when told to."""

    def __init__(self, size: int, *, chunked: bool = False) -> None:
        self.size = size
        self.chunked = chunked
        self.written = 0
        self.received = 0
        self.may_read = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            await self.may_read.wait()
            while self.received < self.size:
                self.received += len(await reader.read(65536))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        framing = b"Transfer-Encoding: chunked" if self.chunked else b"Content-Length: %d" % self.size
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        left = self.size
        while left:
            left -= len(PIECE)
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if self.chunked else PIECE)
            self.written += len(PIECE)
            await writer.drain()
        if self.chunked:
            writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def before(source: Source, **stream: object) -> AsyncIterator[Stage]:
    limits = {"limits": {"body": "1GiB"}}
    async with backend(source.serve) as url, stage(url, stream=stream, server=limits) as front:
        yield front


@asynccontextmanager
async def reader_that_waits(front: Stage) -> AsyncIterator[socket.socket]:
    """A client's bare socket: nothing reads from it but the test."""
    loop = asyncio.get_running_loop()
    host, port = front.url.removeprefix("http://").split(":")
    with socket.socket() as peer:
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        await loop.sock_connect(peer, (host, int(port)))
        await loop.sock_sendall(peer, GET)
        yield peer


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_reader_that_stops_stops_the_backend(*, chunked: bool) -> None:
    source = Source(32 * MiB, chunked=chunked)
    async with before(source) as front, reader_that_waits(front) as peer:
        await until(lambda: source.written > MiB)
        assert await standstill(lambda: source.written) < AHEAD
        assert front.ledger.used < MiB
        received = 0
        while not front.telemetry.ended:
            received += len(await asyncio.get_running_loop().sock_recv(peer, 1 << 20))
        assert received > 32 * MiB - AHEAD
        assert (front.telemetry.ended[-1].outcome, front.telemetry.ended[-1].bytes_out) == ("ok", 32 * MiB)
        await until(lambda: front.is_at_rest)


async def test_a_backend_that_stops_reading_stops_the_client() -> None:
    source = Source(32 * MiB)
    async with before(source) as front, RawClient(front.url) as client:
        await client.send(b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % source.size)
        sent = 0

        async def upload() -> None:
            nonlocal sent
            while sent < source.size:
                await client.send(PIECE)
                sent += len(PIECE)

        async with asyncio.TaskGroup() as group:
            group.create_task(upload())
            await until(lambda: sent > MiB)
            # The client's kernel, ours twice, the watermark, the backend's own reader and kernel.
            assert await standstill(lambda: sent) < 24 * MiB
            assert front.ledger.used <= MiB
            source.may_read.set()
        assert (await client.receive()).status == 200
        assert source.received == source.size
        await until(lambda: front.is_at_rest)


async def test_the_budget_holds_for_all_streams_together() -> None:
    source = Source(8 * MiB)
    async with before(source) as front, AsyncExitStack() as stack:
        for _ in range(12):
            await stack.enter_async_context(reader_that_waits(front))
        await until(lambda: source.written > 12 * MiB)
        await standstill(lambda: source.written)
        # The watermark and one read for each, and what the transport could not pass on.
        assert front.ledger.used < 12 * MiB
        await stack.aclose()
        await until(lambda: front.is_at_rest)
        assert {ended.ended_by for ended in front.telemetry.ended} == {"client"}


async def test_each_event_leaves_before_the_next_is_made() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(20):
            event = b"data: caf\xc3\xa9 %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await got.wait()  # the client has it
            got.clear()
        writer.write(b"0\r\n\r\n")

    got = asyncio.Event()  # what the backend waits for comes from the test, beside the proxy
    async with (
        backend(answer) as url,
        stage(url) as front,
        RawClient(front.url) as client,
    ):
        await client.send(GET)
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.read_some()
        assert b"X-Accel-Buffering: no" in head
        text = head.partition(b"\r\n\r\n")[2]
        for number in range(20):
            while b"caf\xc3\xa9 %d\n\n" % number not in text:
                text += await client.read_some()
            got.set()
        while not text.endswith(b"0\r\n\r\n"):
            text += await client.read_some()
