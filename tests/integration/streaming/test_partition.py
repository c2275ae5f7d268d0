"""Packets vanish: an end that nobody told of it is not waited for without end."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING

import pytest

from proxy.config.addresses import Address
from proxy.errors import ReaderStalled, ReadTimeout
from tests.support.backend import backend
from tests.support.partition import Elsewhere
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
SIZE = 64 << 20
OFFSETS = random.Random("offsets").sample(range(8 << 20), 3)
pytestmark = pytest.mark.slow


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    with Elsewhere() as elsewhere:
        yield elsewhere


class Backend:
    """Pours out its answer, or takes a body; says when it has lost its connection."""

    def __init__(self, cut: asyncio.Event, offset: int) -> None:
        self.cut = cut
        self.offset = offset
        self.is_over = asyncio.Event()

    async def pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        written = 0
        try:
            while written < SIZE:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536
                if written >= self.offset:
                    self.cut.set()
        finally:
            self.is_over.set()

    async def trickle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As many bytes as are to come, and then silence."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(self.offset))
        await writer.drain()
        await reader.read()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = 0
        while data := await reader.read(65536):
            taken += len(data)
            if taken >= self.offset:
                self.cut.set()


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a_client_behind_a_dead_line_is_given_up(there: Elsewhere, offset: int) -> None:
    model = Backend(asyncio.Event(), 0)
    loop = asyncio.get_running_loop()
    async with (
        backend(model.pour) as url,
        stage(url, place=Address(there.here, 0), stream={"stall": "300ms"}) as front,
    ):
        with there.inside():
            peer = socket.socket()
        with peer:
            peer.setblocking(False)
            host, _, port = front.url.removeprefix("http://").rpartition(":")
            await loop.sock_connect(peer, (host, int(port)))
            await loop.sock_sendall(peer, GET)
            received = 0
            while received < offset:
                received += len(await loop.sock_recv(peer, 65536))
            there.cut()
            await until(lambda: bool(front.telemetry.ended))
        (ended,) = front.telemetry.ended
        assert (ended.reason, ended.ended_by) == (ReaderStalled.reason, "proxy")
        assert offset <= ended.bytes_out < SIZE
        async with asyncio.timeout(PATIENCE_S):
            await model.is_over.wait()
        await until(lambda: front.is_at_rest)


def on(there: Elsewhere) -> socket.socket:
    """A listening socket of the other host."""
    with there.inside():
        return socket.create_server((there.address, 0))


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a_backend_behind_a_dead_line_is_given_up(there: Elsewhere, offset: int) -> None:
    model = Backend(asyncio.Event(), offset)
    impatient = {"timeouts": {"idle": "300ms"}}
    async with backend(model.trickle, listener=on(there)) as url, stage(url, pool=impatient) as front:
        async with RawClient(front.url) as client:
            await client.send(GET)
            text = b""
            while len(text.partition(b"\r\n\r\n")[2]) < offset:
                text += await client.read_some()
            there.cut()
            with pytest.raises(ConnectionResetError):
                await client.read_to_end()
        (ended,) = front.telemetry.ended
        assert (ended.reason, ended.ended_by) == (ReadTimeout.reason, "upstream")
        assert ended.bytes_out == offset
        await until(lambda: front.is_at_rest)
        there.heal()


async def test_an_upload_into_a_dead_line_is_given_up(there: Elsewhere) -> None:
    cut = asyncio.Event()
    model = Backend(cut, 1 << 20)
    impatient = {"timeouts": {"first_byte": "400ms"}}
    settings = {"limits": {"body": "1GiB"}}
    async with (
        backend(model.take, listener=on(there)) as url,
        stage(url, pool=impatient, server=settings) as front,
        RawClient(front.url) as client,
    ):
        await client.send(b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE)

        async def upload() -> None:
            while not cut.is_set():
                await client.send(bytes(65536))
            there.cut()
            client._writer.write(bytes(8 << 20))

        await upload()
        assert (await client.receive()).status == 504
        assert front.telemetry.ended[0].reason == ReadTimeout.reason
        await until(lambda: front.is_at_rest)
        there.heal()
