"""What is measured of the streams of model servers: each token that they send is one event."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import backend
from tests.support.raw_client import RawClient, request
from tests.support.stage import stage
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = ("four", "tokens", "one", "caf\u00e9")


def lines(word: str) -> bytes:
    """Ollama's NDJSON."""
    return json.dumps({"model": "m", "response": word, "done": False}, ensure_ascii=False).encode() + b"\n"


def text_generation(word: str) -> bytes:
    """Text Generation Inference: no space behind the colon."""
    return b"data:" + json.dumps({"token": {"text": word}}, ensure_ascii=False).encode() + b"\n\n"


def chat(word: str) -> bytes:
    """OpenAI and vLLM."""
    choice = {"index": 0, "delta": {"content": word}}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("protocol", "path", "media", "said"),
    [
        ("ollama", b"/api/generate", b"application/x-ndjson", lines),
        ("open-inference", b"/v2/models/m/generate_stream", b"text/event-stream", text_generation),
        ("openai", b"/v1/chat/completions", b"text/event-stream; charset=utf-8", chat),
    ],
)
async def test_tokens_are_counted_for_their_model(
    protocol: str, path: bytes, media: bytes, said: Callable[[str], bytes]
) -> None:
    got = asyncio.Event()

    async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % media)
        for word in WORDS:
            event = said(word)
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await got.wait()  # the client has it: each token is a read of its own
            got.clear()
        writer.write(b"0\r\n\r\n")

    asked = json.dumps({"model": "m", "stream": True}).encode()
    async with backend(model) as url, stage(url, protocol=protocol) as front, RawClient(front.url) as client:
        await client.send(request(b"POST", path, asked, b"Content-Type: application/json"))
        text = b""
        for word in WORDS:
            while said(word) not in text:
                text += await client.read_some()
            got.set()
        while not text.endswith(b"0\r\n\r\n"):
            text += await client.read_some()
        await until(lambda: bool(front.telemetry.ended))
        series = front.telemetry.metrics.models.admitted["m"]
        assert (series.first_byte.count, series.event_gap.count, series.event_rate.count) == (1, 3, 1)
        assert (b"X-Accel-Buffering: no" in text) == (protocol != "ollama")
