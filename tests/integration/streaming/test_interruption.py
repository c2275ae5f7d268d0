"""An interrupted stream is never mistaken for a whole one, and who leaves frees the other side."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proxy.batching.policy import BatchPolicy
from proxy.errors import ReaderStalled
from tests.support.backend import backend
from tests.support.raw_client import RawClient, request
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.support.stage import Stage

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
GET_ONCE = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"token": "caf\xc3\xa9"}\n\n'
PREDICT = b"/v1/models/m:predict"
RESET = struct.pack("ii", 1, 0)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_backend_that_dies_anywhere_is_never_a_whole_answer(how: str, framing: str) -> None:
    generator = random.Random(f"{how} {framing}")
    body = generator.randbytes(200_000)
    if framing == "length":
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire = head + body
    else:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire = head + b"".join(chunk(body[at : at + 7000]) for at in range(0, len(body), 7000)) + b"0\r\n\r\n"
    cuts = [len(head), len(wire) - 1, len(wire) - 3] + [
        generator.randrange(len(head), len(wire)) for _ in range(17)
    ]

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(wire[: cuts[len(outcomes)]])
        await writer.drain()
        if how == "rst":
            await asyncio.sleep(0)
            reset(writer)
        else:
            writer.write_eof()

    outcomes: list[str] = []
    async with backend(die) as url, stage(url) as front:
        for _ in cuts:
            async with RawClient(front.url) as client:
                await client.send(GET)
                try:
                    answer = await client.receive()
                except (ConnectionError, asyncio.IncompleteReadError):
                    outcomes.append("broken")
                else:
                    # A body that was still small enough to be held back is answered for by the proxy.
                    assert answer.status == 502
                    outcomes.append("502")
        await until(lambda: len(front.telemetry.ended) == len(cuts))
        assert {(ended.outcome, ended.ended_by) for ended in front.telemetry.ended} == {
            ("upstream_error", "upstream")
        }
        assert all(ended.bytes_out < len(body) or framing == "chunked" for ended in front.telemetry.ended)
        await until(lambda: front.is_at_rest)
    assert outcomes.count("broken") >= len(cuts) // 2


async def stream_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await go_on_for_ever(writer)


async def go_on_for_ever(writer: asyncio.StreamWriter) -> None:
    writer.write(SSE)
    while True:
        await writer.drain()  # just before it writes: uvloop has an error of its own for what is closed
        writer.write(chunk(EVENT))
        await asyncio.sleep(0.001)  # a model takes longer, and the machine is for whoever comes and goes


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_client_that_leaves_stops_the_model(how: str) -> None:
    gone = asyncio.Event()

    async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await stream_for_ever(reader, writer)
        except ConnectionError:
            gone.set()

    async with backend(model) as url, stage(url) as front:
        async with RawClient(front.url) as client:
            await client.send(GET)
            while EVENT not in await client.read_some():
                pass
            if how == "rst":
                client.reset()
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        await until(lambda: front.is_at_rest)
        (ended,) = front.telemetry.ended
        assert (ended.outcome, ended.status, ended.reason, ended.ended_by) == (
            "cancelled",
            499,
            "client_gone",
            "client",
        )
        assert ended.bytes_out >= len(EVENT)


async def test_the_last_client_of_a_batch_stops_the_model() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def model(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"[3]]}")
        asked.set()
        with suppress(ConnectionError):
            await reader.read()
        gone.set()

    batch = BatchPolicy.model_validate(
        {"mode": "window", "max_wait": "60s", "items": {"start": 2, "least": 1}}
    )
    async with backend(model) as url, stage(url, protocol="kserve-v1", batch=batch) as front:
        async with RawClient(front.url) as last:
            async with RawClient(front.url) as first:
                await first.send(request(b"POST", PREDICT, b'{"instances": [[2]]}'))
                await until(lambda: front.admission.in_flight == 1)
                await last.send(request(b"POST", PREDICT, b'{"instances": [[3]]}'))
                async with asyncio.timeout(PATIENCE_S):
                    await asked.wait()
            await until(lambda: len(front.telemetry.ended) == 1)
            assert not gone.is_set(), "the other one still waits for its part"
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        await until(lambda: front.is_at_rest)
        assert [ended.reason for ended in front.telemetry.ended] == ["client_gone"] * 2


@pytest.mark.parametrize("count", [200, pytest.param(5_000, marks=pytest.mark.slow)])  # on each event loop
async def test_aborted_streams_leave_nothing_behind(count: int) -> None:
    async with (
        backend(stream_for_ever) as url,
        stage(url, pool={"pool": {"http": {"min": 0, "max": 20, "wait": "60s", "connect": "60s"}}}) as front,
    ):
        before = len(asyncio.all_tasks())

        async def come_and_go(number: int) -> None:
            async with RawClient(front.url) as client:
                await client.send(GET)
                if number % 3:
                    await client.read_some()
                if number % 2:
                    client.reset()

        for start in range(0, count, 20):
            await asyncio.gather(*(come_and_go(start + number) for number in range(20)))
        await until(lambda: len(front.telemetry.ended) == count and front.is_at_rest)
        assert {ended.ended_by for ended in front.telemetry.ended} == {"client"}
        metrics = front.telemetry.metrics
        assert metrics.streaming.active == 0
        # What may be left: connections that were opened for clients who had left by then, each with its handler.
        (pool,) = front.pool.snapshot()
        await until(lambda: len(asyncio.all_tasks()) <= before + int(str(pool["idle"])))
        assert (metrics.streaming.active, front.ledger.used) == (0, 0)


async def test_a_storm_of_reconnections_leaves_nothing_behind() -> None:
    clients, rounds = 50, 10
    writers: set[asyncio.StreamWriter] = set()
    most = 0

    async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        await reader.readuntil(b"\r\n\r\n")
        writers.add(writer)
        most = max(most, len(writers))
        await go_on_for_ever(writer)

    async def listen_again_and_again(front: Stage) -> None:
        for _ in range(rounds):
            async with RawClient(front.url) as client:
                await client.send(GET_ONCE)  # a stream that dies before its first byte is answered 502
                with suppress(ConnectionResetError):
                    while await client.read_some():
                        pass

    async with (
        backend(model) as url,
        stage(
            url, pool={"pool": {"http": {"min": 0, "max": clients, "wait": "60s", "connect": "60s"}}}
        ) as front,
        asyncio.TaskGroup() as group,
    ):
        listening = [group.create_task(listen_again_and_again(front)) for _ in range(clients)]
        while not all(task.done() for task in listening):
            await until(lambda: len(writers) == sum(not task.done() for task in listening))
            dying = tuple(writers)
            writers.clear()
            for writer in dying:  # all of them lose their streams at once, and all come back at once
                reset(writer)
        await until(lambda: front.is_at_rest)
        assert len(front.telemetry.ended) == clients * rounds
        assert {ended.ended_by for ended in front.telemetry.ended} == {"upstream"}
        assert (most, front.telemetry.metrics.streaming.active) == (clients, 0)


async def test_a_reader_that_takes_nothing_is_given_up() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            writer.write(bytes(1_000_000))
            await writer.drain()

    loop = asyncio.get_running_loop()
    async with backend(flood) as url, stage(url, stream={"stall": "200ms"}) as front:
        host, port = front.url.removeprefix("http://").split(":")
        with socket.socket() as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, (host, int(port)))
            await loop.sock_sendall(peer, GET)
            await until(lambda: bool(front.telemetry.ended))
            (ended,) = front.telemetry.ended
            assert (ended.reason, ended.ended_by) == (ReaderStalled.reason, "proxy")
            assert 0 < ended.bytes_out < 50_000_000
            assert front.telemetry.metrics.streaming.stalls == 1
            with pytest.raises(ConnectionError):
                await _drain(peer)
        await until(lambda: front.is_at_rest)


async def _drain(peer: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(peer, 1 << 20):
        pass


async def test_a_slow_reader_that_goes_on_is_not_given_up() -> None:
    size = 6_000_000

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await writer.drain()

    loop = asyncio.get_running_loop()
    async with backend(flood) as url, stage(url, stream={"stall": "400ms"}) as front:
        host, port = front.url.removeprefix("http://").split(":")
        with socket.socket() as peer:
            peer.setblocking(False)
            # Of a larger buffer, and of loopback's large segments, the kernel would tell after several reads.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            await loop.sock_connect(peer, (host, int(port)))
            await loop.sock_sendall(peer, GET)
            for _ in range(30):  # three times as long as a stalled reader would get
                await asyncio.sleep(0.05)
                assert await loop.sock_recv(peer, 16384)
            assert not front.telemetry.ended
            while not front.telemetry.ended:
                await loop.sock_recv(peer, 1 << 20)
        assert front.telemetry.ended[0].outcome == "ok"


async def test_ranges_pass_untouched() -> None:
    head = b'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-199999/400000\r\nContent-Type: text/plain\r\nETag: "a"\r\n'

    async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Range: bytes=0-199999" in await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)

    async with (
        backend(part) as url,
        stage(url, stream={"compress": "on"}) as front,
        RawClient(front.url) as client,
    ):
        answer = await client.ask(b"GET", b"/x", b"", b"Range: bytes=0-199999", b"Accept-Encoding: gzip")
        assert (answer.status, answer.header(b"content-range"), answer.header(b"etag")) == (
            206,
            b"bytes 0-199999/400000",
            b'"a"',
        )
        assert answer.body == b"x" * 200_000
