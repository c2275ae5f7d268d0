"""Bytes that nobody looks at: both directions, both half-closes, both kinds of slowness, and every end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.config.addresses import Address
from proxy.exchange import Ledger
from proxy.ingress.l4 import L4Server, _Client
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import LoopClock
from tests.support.backend import backend
from tests.support.grpc_pools import DeafEvents
from tests.support.waiting import PATIENCE_S, standstill, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
NOBODY = "http://127.0.0.1:1"
ANY = Address("127.0.0.1", 0)


class Stage:
    """A listener before backends; `ledger` is what it holds for slow readers."""

    def __init__(self, urls: tuple[str, ...], most: int, place: Address = ANY, /, **policy: object) -> None:
        clock = LoopClock()
        self.ledger = Ledger(1 << 20)
        self.cluster = Cluster(
            "model",
            [parse_endpoint(url) for url in urls],
            UpstreamPolicy.model_validate({"health": {"every": "0s"}} | policy),
            clock,
            events=DeafEvents(),
            protocol="l4",
            random=lambda: 0.0,
        )
        self.server = L4Server(self.cluster, place, clock, ledger=self.ledger, most=most)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Streams]:
        """A client."""
        host, _, port = self.server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    @property
    def open(self) -> int:
        """Connections to backends."""
        return sum(int(str(endpoint["open"])) for endpoint in self.cluster.snapshot())


@asynccontextmanager
async def stage(*urls: str, most: int = 100, **policy: object) -> AsyncIterator[Stage]:
    rig = Stage(urls, most, **policy)
    await rig.cluster.start()
    await rig.server.start()
    async with asyncio.timeout(PATIENCE_S):
        yield rig
        await rig.server.stop()
        await rig.cluster.stop()
    assert (rig.open, rig.ledger.used) == (0, 0)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads to the end and says nothing."""


async def test_bytes_go_both_ways_to_the_end_of_both() -> None:
    payload = bytes(range(256)) * 8192
    async with backend(echo) as url, stage(url) as rig:
        async with rig.connect() as (reader, writer):
            reading = asyncio.create_task(reader.read())  # noqa: TID251  the test owns it
            writer.write(payload)
            writer.write_eof()
            assert await reading == payload
        await until(lambda: rig.server.outcomes == {"ok": 1})
        assert rig.server.passed == {"request": len(payload), "response": len(payload)}


async def test_the_server_may_speak_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready")

    async with backend(greet) as url, stage(url) as rig, rig.connect() as (reader, _):
        assert await reader.readexactly(9) == b"220 ready"


async def test_a_client_that_has_said_all_still_hears_the_answer() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))
        writer.write_eof()

    async with backend(count) as url, stage(url) as rig, rig.connect() as (reader, writer):
        writer.write(bytes(100_000))
        writer.write_eof()
        assert await reader.read() == b"100000"


async def test_a_server_that_has_said_all_still_listens() -> None:
    heard = asyncio.Event()

    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all")
        writer.write_eof()
        assert await reader.read() == bytes(100_000)
        heard.set()

    async with backend(speak_first) as url, stage(url) as rig, rig.connect() as (reader, writer):
        assert await reader.read() == b"that is all"
        writer.write(bytes(100_000))
        writer.write_eof()
        await heard.wait()
        await until(lambda: rig.server.outcomes == {"ok": 1})


async def test_a_client_that_reads_nothing_stops_the_server() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(1000):
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536
        writer.write_eof()

    async with backend(pour) as url, stage(url) as rig, rig.connect() as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads, too
        client = await _client(rig)
        await until(lambda: client._relay is not None and client._relay._held > 0)
        await until(lambda: rig.ledger.used > 64 << 10)
        assert await standstill(lambda: sent) < 20 << 20
        assert rig.ledger.used < 1 << 20
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        assert len(await reader.read()) == 65_536_000


async def test_a_server_that_reads_nothing_stops_the_client() -> None:
    may_read = asyncio.Event()
    total = asyncio.get_running_loop().create_future()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        total.set_result(len(await reader.read()))

    async with backend(late) as url, stage(url) as rig, rig.connect() as (_, writer):
        writer.write(bytes(32 << 20))
        client = await _client(rig)
        await until(lambda: client._inbound.is_paused)
        assert rig.ledger.used < 1 << 20
        assert writer.transport.get_write_buffer_size() > 8 << 20
        may_read.set()
        writer.write_eof()
        assert await total == 32 << 20


async def test_a_client_that_breaks_off_is_told_to_the_server() -> None:
    broken = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            broken.set()

    async with backend(wait) as url, stage(url) as rig:
        async with rig.connect() as (_, writer):
            writer.write(b"x")
            await until(lambda: rig.server.passed["request"] == 1 and rig.open == 1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await broken.wait()
        await until(lambda: rig.server.outcomes == {"client": 1})


async def test_a_server_that_breaks_off_is_told_to_the_client() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with backend(die) as url, stage(url) as rig, rig.connect() as (reader, writer):
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await until(lambda: rig.server.outcomes == {"upstream": 1})


async def test_an_endpoint_that_refuses_is_passed_over_and_ejected() -> None:
    async with backend(echo) as url, stage(NOBODY, url, eject={"consecutive": 2}) as rig:
        for _ in range(4):
            async with rig.connect() as (reader, writer):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
        assert next(endpoint["open"] for endpoint in rig.cluster.snapshot()) == 0


async def test_nobody_listens() -> None:
    async with stage(NOBODY) as rig, rig.connect() as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await until(lambda: rig.server.outcomes == {"refused": 1})


async def test_an_endpoint_that_does_not_accept_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        queued = [socket.socket() for _ in range(4)]
        for each in queued:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        async with stage(f"http://127.0.0.1:{port}", pool={"l4": {"connect": "50ms"}}) as rig:
            async with rig.connect() as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            await until(lambda: rig.server.outcomes == {"refused": 1})
        for each in queued:
            each.close()


async def test_limits_of_the_listener_and_of_the_endpoint() -> None:
    async with (
        backend(echo) as url,
        stage(url, most=2, pool={"l4": {"max": 1}}) as rig,
        rig.connect() as (reader, writer),
    ):
        writer.write(b"x")
        await reader.readexactly(1)
        for _ in range(2):
            async with rig.connect() as (refused, _):
                with pytest.raises(ConnectionResetError):
                    await refused.read()
        await until(lambda: rig.server.outcomes == {"shed": 2})


async def test_a_silent_connection_is_closed() -> None:
    async with backend(silent) as url, stage(url, pool={"l4": {"idle": "50ms"}}) as rig:
        async with rig.connect() as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await until(lambda: rig.open == 0)


async def test_a_client_that_leaves_while_its_endpoint_is_dialed() -> None:
    async with backend(echo) as url, stage(url) as rig:
        for _ in range(20):
            async with rig.connect():
                pass
        await until(lambda: rig.server.outcomes.total() == 20)
        await until(lambda: rig.open == 0)


async def test_drain_waits_for_clients_and_takes_no_new_ones() -> None:
    async with backend(echo) as url, stage(url) as rig, rig.connect() as (reader, writer):
        writer.write(b"before")
        await reader.readexactly(6)
        draining = asyncio.create_task(rig.server.drain(0.0))  # noqa: TID251  the test owns it
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            async with rig.connect():
                pass
        writer.write(b"after")
        writer.write_eof()
        assert await reader.read() == b"after"
        await draining


async def test_a_unix_socket_on_either_side(tmp_path: Path) -> None:
    behind, before = str(tmp_path / "behind.sock"), str(tmp_path / "before.sock")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(reader, writer)
        writer.close()

    rig = Stage((f"unix:{behind}",), 10, Address("", 0, before))
    async with await asyncio.start_unix_server(serve, behind):
        await rig.server.start()
        reader, writer = await asyncio.open_unix_connection(before)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        with pytest.raises(OSError, match="another process listens there"):
            await Stage((f"unix:{behind}",), 10, Address("", 0, before)).server.start()
        await rig.server.drain(0.0)
        await rig.server.stop()
        await rig.cluster.stop()
    assert not (tmp_path / "before.sock").exists()


async def _client(rig: Stage) -> _Client:
    await until(lambda: bool(rig.server._clients))
    return next(iter(rig.server._clients))
