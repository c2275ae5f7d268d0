"""What a policy may add to an answer on its way: an encoding, heartbeats, a last word."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
import zstandard

from tests.support.backend import backend
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
EVENTS = [b'data: {"token": "w%d"}\n\n' % number for number in range(40)]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(*fields: bytes, media: bytes = b"text/event-stream") -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"Content-Type: " + media, b"Transfer-Encoding: chunked", *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def teller(
    is_passed_on: Callable[[], bool],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]:
    """Tells the first event, and the others once the answer is being passed on: an answer that comes whole
    in one read is no stream."""

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(b'ETag: "a"') + chunk(EVENTS[0]))
        await until(is_passed_on)
        for event in EVENTS[1:]:
            writer.write(chunk(event))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    return tell


def decoder(coding: bytes) -> Callable[[bytes], bytes]:
    if coding == b"gzip":
        return zlib.decompressobj(31).decompress
    if coding == b"br":
        decode: Callable[[bytes], bytes] = brotli.Decompressor().process
        return decode
    return zstandard.ZstdDecompressor().decompressobj().decompress


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd"])
async def test_a_stream_is_encoded_for_whoever_asks(coding: bytes) -> None:
    async with (
        backend(teller(lambda: front.telemetry.metrics.streaming.active > 0)) as url,
        stage(url, stream={"compress": "on"}) as front,
        RawClient(front.url) as client,
    ):
        answer = await client.ask(b"GET", b"/x", b"", b"Accept-Encoding: " + coding)
        assert answer.header(b"content-encoding") == coding
        assert answer.header(b"etag") == b'W/"a"'
        assert decoder(coding)(answer.body) == b"".join(EVENTS)
        plain = await client.ask(b"GET", b"/x")
        assert plain.header(b"content-encoding") is None
        assert plain.header(b"vary") == b"Accept-Encoding"
        assert plain.body == b"".join(EVENTS)
        await until(lambda: front.is_at_rest)


async def test_it_is_off_by_default() -> None:
    async with (
        backend(teller(lambda: front.telemetry.metrics.streaming.active > 0)) as url,
        stage(url) as front,
        RawClient(front.url) as client,
    ):
        answer = await client.ask(b"GET", b"/x", b"", b"Accept-Encoding: gzip")
        assert (answer.header(b"content-encoding"), answer.header(b"vary")) == (None, None)
        assert answer.body == b"".join(EVENTS)


async def test_an_encoded_event_is_not_held_back() -> None:
    got = asyncio.Event()

    async def pause_after_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head())
        for event in EVENTS:
            writer.write(chunk(event))
            await got.wait()
            got.clear()
        writer.write(b"0\r\n\r\n")

    async with (
        backend(pause_after_each) as url,
        stage(url, stream={"compress": "on"}) as front,
        RawClient(front.url) as client,
    ):
        await client.send(b"GET /x HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
        wire = b""
        for number in range(len(EVENTS)):
            while _decoded(wire).count(b"\n\n") <= number:
                wire += await client.read_some()
            got.set()


def _decoded(wire: bytes) -> bytes:
    """The events in what has come of a chunked gzip answer."""
    body, rest = b"", wire.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size or b"0", 16)]
        rest = rest[int(size or b"0", 16) + 2 :]
    return zlib.decompressobj(31).decompress(body)


async def test_silence_is_filled_between_two_events_and_never_inside_one() -> None:
    half_sent, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head() + chunk(b"data: one\n\n"))
        await half_sent.wait()
        writer.write(chunk(b"data: tw"))
        await go_on.wait()
        writer.write(chunk(b"o\n\n") + b"0\r\n\r\n")

    async with (
        backend(slow) as url,
        stage(url, stream={"heartbeat": "20ms"}) as front,
        RawClient(front.url) as client,
    ):
        await client.send(GET)
        text = b""
        while text.count(b": waiting\n\n") < 2:
            text += await client.read_some()
        half_sent.set()
        while b"data: tw" not in text:
            text += await client.read_some()
        await asyncio.sleep(0.1)
        go_on.set()
        while not text.endswith(b"0\r\n\r\n"):
            text += await client.read_some()
        torn = text.partition(b"data: tw")[2]
        assert torn.startswith(b"\r\n3\r\no\n\n")


@pytest.mark.parametrize("torn", [b"", b'data: {"tok'])
async def test_a_stream_that_breaks_off_says_why_and_does_not_end(torn: bytes) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head() + chunk(EVENTS[0]) + (chunk(torn) if torn else b""))
        await writer.drain()
        writer.write_eof()

    async with (
        backend(die) as url,
        stage(url, stream={"error_event": True}) as front,
        RawClient(front.url) as client,
    ):
        await client.send(GET)
        text = await client.read_to_end()
        assert not text.endswith(b"0\r\n\r\n"), "nothing says that the answer is whole"
        event = text.rpartition(b"event: error\ndata: ")[2].partition(b"\n\n")[0]
        assert json.loads(event)["error"]["code"] == "reset"
        assert (b'data: {"tok\r\n' in text) == bool(torn)
        await until(lambda: front.is_at_rest)
        (ended,) = front.telemetry.ended
        assert (ended.outcome, ended.ended_by) == ("upstream_error", "upstream")


async def test_only_event_streams_are_talked_to() -> None:
    async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(media=b"application/x-ndjson") + chunk(b'{"a": 1}\n'))
        await writer.drain()
        writer.write_eof()

    policy = {"error_event": True, "heartbeat": "10ms"}
    async with backend(lines) as url, stage(url, stream=policy) as front, RawClient(front.url) as client:
        await client.send(GET)
        with pytest.raises(ConnectionResetError):
            assert b"error" not in await client.read_to_end()


async def test_a_client_that_leaves_a_stage_frees_the_backend() -> None:
    left = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head() + chunk(EVENTS[0]))
        await reader.read()
        left.set()

    policy = {"heartbeat": "1s", "compress": "on"}
    async with backend(endless) as url, stage(url, stream=policy) as front:
        async with RawClient(front.url) as client:
            await client.send(GET)
            while b"w0" not in await client.read_some():
                pass
        async with asyncio.timeout(PATIENCE_S):
            await left.wait()
        await until(lambda: front.is_at_rest)
        assert front.telemetry.ended[0].ended_by == "client"
        assert front.telemetry.metrics.streaming.active == 0
