"""Other people's clients read a stream through Pillion as they read it from the model server itself."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from proxy.demo.options import DemoOptions
from proxy.demo.server import start
from tests.support.backend import backend
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stage import Stage

pytestmark = [
    pytest.mark.real,
    # Their own housekeeping, not ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

WORDS = "a caf\u00e9 \u2603 streams its tokens one by one"
CHAT = {"model": "parrot", "messages": [{"role": "user", "content": WORDS}], "stream": True}
NODE_LEAVES = """
const controller = new AbortController();
const answer = await fetch(process.argv[1], {method: "POST", body: process.argv[2], signal: controller.signal});
await answer.body.getReader().read();
controller.abort();
console.log("left");
await new Promise((resolve) => process.stdin.on("data", resolve));  // still running: the connection is what ended
process.exit(0);
"""
NODE = """
const answer = await fetch(process.argv[1], {method: "POST", headers: {"Content-Type": "application/json"},
  body: process.argv[2]});
const reader = answer.body.getReader();
let text = "";
try {
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    text += new TextDecoder().decode(value, {stream: true});
  }
  console.log("whole");
} catch (error) {
  console.log("broken");
}
process.stdout.write(text);
"""


@asynccontextmanager
async def chat(**stream: object) -> AsyncIterator[Stage]:
    server = await start(DemoOptions(token_s=0.002), "127.0.0.1", 0)
    try:
        async with stage(server.url, protocol="openai", stream=stream) as front:
            yield front
    finally:
        await server.close()


@asynccontextmanager
async def breaking(**stream: object) -> AsyncIterator[Stage]:
    """A stream that the backend breaks off behind its first event."""
    event = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        writer.write_eof()

    async with backend(die) as url, stage(url, protocol="openai", stream=stream) as front:
        yield front


@asynccontextmanager
async def endless(**stream: object) -> AsyncIterator[tuple[Stage, asyncio.Event]]:
    """A stream that goes on until its reader leaves; the event says that the backend has lost its client."""
    event = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'
    is_over = asyncio.Event()

    async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        try:
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            is_over.set()

    async with backend(go_on) as url, stage(url, protocol="openai", stream=stream) as front:
        yield front, is_over


async def backend_is_free(front: Stage, is_over: asyncio.Event) -> None:
    """The backend hears that its client has left, and nobody is taken for the culprit but the client."""
    async with asyncio.timeout(PATIENCE_S):
        await is_over.wait()
    await until(lambda: front.is_at_rest)
    assert [ended.ended_by for ended in front.telemetry.ended] == ["client"]


def said(text: str) -> str:
    """What the tokens of an event stream say together."""
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    choices = [json.loads(event)["choices"] for event in events[:-1]]
    return "".join(choice[0]["delta"].get("content", "") for choice in choices if choice)


async def run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def openai_client(front: Stage) -> Any:  # noqa: ANN401  an optional package
    openai = pytest.importorskip("openai")
    base_url = f"{front.url}/v1"
    return openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=PATIENCE_S)


@pytest.mark.parametrize("stream", [{}, {"compress": "on"}], ids=["plain", "encoded"])
async def test_openai(stream: dict[str, object]) -> None:
    async with chat(**stream) as front:
        async with openai_client(front) as client:
            tokens = [
                chunk.choices[0].delta.content or ""
                async for chunk in await client.chat.completions.create(**CHAT)
                if chunk.choices
            ]
        assert len(tokens) > len(WORDS.split())
        assert "".join(tokens).strip() == WORDS


async def test_openai_hears_why_a_stream_broke_off() -> None:
    openai = pytest.importorskip("openai")
    async with breaking(error_event=True) as front, openai_client(front) as client:
        answer = await client.chat.completions.create(**CHAT)
        with pytest.raises(openai.APIError, match="closed the connection"):
            [chunk async for chunk in answer]


async def test_openai_sees_that_a_stream_is_not_whole() -> None:
    openai, httpx = pytest.importorskip("openai"), pytest.importorskip("httpx")
    async with breaking() as front, openai_client(front) as client:
        answer = await client.chat.completions.create(**CHAT)
        with pytest.raises((openai.APIConnectionError, httpx.TransportError)):
            [chunk async for chunk in answer]


async def test_openai_leaves() -> None:
    async with endless() as (front, is_over), openai_client(front) as client:
        answer = await client.chat.completions.create(**CHAT)
        async for _ in answer:
            break
        await answer.close()
        await backend_is_free(front, is_over)


async def test_httpx_leaves() -> None:
    httpx = pytest.importorskip("httpx")
    async with endless() as (front, is_over), httpx.AsyncClient(timeout=PATIENCE_S) as client:
        async with client.stream("POST", f"{front.url}/v1/chat/completions", json=CHAT) as answer:
            async for _ in answer.aiter_bytes():
                break
        await backend_is_free(front, is_over)


@pytest.mark.parametrize("who", ["curl", "node"])
async def test_a_program_leaves(who: str) -> None:
    async with endless() as (front, is_over):
        url, body = f"{front.url}/v1/chat/completions", json.dumps(CHAT)
        commands = {
            "curl": ("-sN", "-d", body, url),
            "node": ("--input-type=module", "-e", NODE_LEAVES, url, body),
        }
        process = await asyncio.create_subprocess_exec(
            program(who),
            *commands[who],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.read(4)
        if who == "curl":
            process.terminate()
        await backend_is_free(front, is_over)
        await process.communicate(b"enough")


async def test_httpx() -> None:
    httpx = pytest.importorskip("httpx")
    async with chat() as front, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        async with client.stream("POST", f"{front.url}/v1/chat/completions", json=CHAT) as answer:
            assert answer.headers["x-accel-buffering"] == "no"
            text = "".join([part async for part in answer.aiter_text()])
        assert said(text).strip() == WORDS


async def test_httpx_sees_that_a_stream_is_not_whole() -> None:
    httpx = pytest.importorskip("httpx")
    async with (
        breaking() as front,
        httpx.AsyncClient(timeout=PATIENCE_S) as client,
        client.stream("POST", f"{front.url}/v1/chat/completions", json=CHAT) as answer,
    ):
        with pytest.raises(httpx.TransportError):
            [part async for part in answer.aiter_text()]


async def test_curl() -> None:
    async with chat() as front:
        url, body = f"{front.url}/v1/chat/completions", json.dumps(CHAT)
        code, text = await run(
            program("curl"), "-sN", "-H", "Content-Type: application/json", "-d", body, url
        )
        assert (code, said(text).strip()) == (0, WORDS)


@pytest.mark.parametrize("stream", [{}, {"error_event": True}], ids=["reset", "last event"])
async def test_curl_sees_that_a_stream_is_not_whole(stream: dict[str, object]) -> None:
    async with breaking(**stream) as front:
        code, _ = await run(
            program("curl"), "-sN", "-d", json.dumps(CHAT), f"{front.url}/v1/chat/completions"
        )
        assert code in {18, 56}, "transfer closed with outstanding data, or reset"


async def test_node() -> None:
    async with chat() as front:
        url = f"{front.url}/v1/chat/completions"
        code, output = await run(program("node"), "--input-type=module", "-e", NODE, url, json.dumps(CHAT))
        verdict, _, text = output.partition("\n")
        assert (code, verdict, said(text).strip()) == (0, "whole", WORDS)


@pytest.mark.parametrize("stream", [{}, {"error_event": True}], ids=["reset", "last event"])
async def test_node_sees_that_a_stream_is_not_whole(stream: dict[str, object]) -> None:
    async with breaking(**stream) as front:
        url = f"{front.url}/v1/chat/completions"
        _, output = await run(program("node"), "--input-type=module", "-e", NODE, url, json.dumps(CHAT))
        assert output.startswith("broken\n")
