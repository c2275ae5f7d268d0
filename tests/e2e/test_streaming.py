"""A reader of an event stream whose model is not loaded yet, through a running proxy."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from tests.support.raw_client import RawClient, request
from tests.support.sidecar import Sidecar, pillion
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow

COMMENT = b": waiting\n\n"
EVENTS = b'data: {"word": 1}\n\n', b"data: [DONE]\n\n"
ASK = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
CHAT = request(b"POST", b"/v1/chat/completions", ASK, b"Content-Type: application/json")


class ModelServer:
    """Has one model, which it loads when the test lets it; answers chats with events."""

    def __init__(self) -> None:
        self.may_load = asyncio.Event()
        self.load_status = 200
        self.is_loading = asyncio.Event()
        self.is_ready = False
        self.refuses = False
        self.chats: list[bytes] = []
        self.app = web.Application()
        self.app.add_routes(
            (
                web.get("/v2", self.about),
                web.post("/v2/repository/index", self.index),
                web.post("/v2/repository/models/m/load", self.load),
                web.get("/v2/models/m/ready", self.ready),
                web.post("/v1/chat/completions", self.chat),
            )
        )

    async def about(self, _request: web.Request) -> web.Response:
        return web.json_response({"name": "server", "extensions": ["model_repository"]})

    async def index(self, _request: web.Request) -> web.Response:
        return web.json_response([{"name": "m", "state": "READY" if self.is_ready else "UNAVAILABLE"}])

    async def load(self, _request: web.Request) -> web.Response:
        self.is_loading.set()
        await self.may_load.wait()
        self.is_ready = self.load_status == 200
        return web.json_response({"error": "no such file"}, status=self.load_status)

    async def ready(self, _request: web.Request) -> web.Response:
        return web.Response(status=200 if self.is_ready else 400)

    async def chat(self, asked: web.Request) -> web.StreamResponse:
        self.chats.append(await asked.read())
        if self.refuses:
            return web.json_response({"error": "too many words"}, status=422)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(asked)
        for event in EVENTS:
            await answer.write(event)
        return answer


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[ModelServer, Sidecar]]:
    """The model server, and a proxy before it that knows its model to be cold."""
    server = ModelServer()
    runner = web.AppRunner(server.app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    config = path / "pillion.yaml"
    config.write_text(
        f"version: 1\n"
        f"upstreams: {{model: {{protocol: openai, http: ['http://{host}:{port}']}}}}\n"
        f"loading: {{mode: demand, control: {{every: 50ms}}}}\n"
        f'models: {{"*": {{stream: {{loading_heartbeat: 20ms}}}}}}\n'
    )
    try:
        async with pillion("-c", str(config)) as sidecar, aiohttp.ClientSession() as client:
            await until_shown(client, sidecar, "models", '"state":"unloaded"')
            yield server, sidecar
    finally:
        server.may_load.set()
        await runner.cleanup()


async def until_shown(client: aiohttp.ClientSession, sidecar: Sidecar, page: str, words: str) -> None:
    """Ask the admin port for `page` until it shows `words`."""
    text = ""
    async with asyncio.timeout(PATIENCE_S):
        while words not in text:
            async with client.get(f"{sidecar.admin}/{page}") as answer:
                text = await answer.text()


async def read_until(client: RawClient, text: bytes, *, seen: bytes = b"", times: int = 1) -> bytes:
    """All that came until `text` has come so many times."""
    while seen.count(text) < times:
        piece = await client.read_some()
        assert piece, seen
        seen += piece
    return seen


async def test_comments_come_while_the_model_loads_and_then_its_events(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, sidecar), RawClient(sidecar.url) as client:
        await client.send(CHAT)
        seen = await read_until(client, COMMENT, times=3)
        head, _, rest = seen.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\ncontent-type: text/event-stream" in head.lower()
        assert b"data:" not in rest
        async with asyncio.timeout(PATIENCE_S):
            await server.is_loading.wait()
        assert not server.chats
        server.may_load.set()
        seen = await read_until(client, b"\r\n0\r\n\r\n", seen=seen)
        assert seen.index(EVENTS[0]) < seen.index(EVENTS[1])
        assert COMMENT not in seen.partition(EVENTS[0])[2]
        assert server.chats == [ASK]
        again = await client.ask(b"POST", b"/v1/chat/completions", ASK, b"Content-Type: application/json")
        assert again.body == b"".join(EVENTS), "the connection lives, and a loaded model needs no comments"


@pytest.mark.parametrize("what_fails", ["the load", "the call"])
async def test_what_fails_behind_the_head_is_the_last_event(tmp_path: Path, what_fails: str) -> None:
    async with served(tmp_path) as (server, sidecar), RawClient(sidecar.url) as client:
        await client.send(CHAT)
        seen = await read_until(client, COMMENT)
        if what_fails == "the load":
            server.load_status = 400
        server.refuses = True
        server.may_load.set()
        seen = await read_until(client, b"event: error\ndata: ", seen=seen)
        rest = await client.read_to_end()
        event = (seen + rest).rpartition(b"event: error\ndata: ")[2]
        error = json.loads(event.partition(b"\n\n")[0])["error"]
        words = {"the load": ("load_failed", "no such file"), "the call": ("bad_reply", "too many words")}
        assert (error["code"], words[what_fails][1] in error["message"]) == (words[what_fails][0], True)
        assert not (seen + rest).endswith(b"0\r\n\r\n"), "an answer that broke off is not a whole one"
        assert bool(server.chats) == (what_fails == "the call")
        async with aiohttp.ClientSession() as admin:
            await until_shown(admin, sidecar, "metrics", 'model="m",outcome="upstream_error"')


async def test_a_client_that_leaves_meanwhile_asks_for_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, sidecar), aiohttp.ClientSession() as admin:
        async with RawClient(sidecar.url) as client:
            await client.send(CHAT)
            await read_until(client, COMMENT)
        await until_shown(admin, sidecar, "metrics", 'model="m",outcome="cancelled"')
        server.may_load.set()
        await until_shown(admin, sidecar, "models", '"state":"ready"')
        assert not server.chats
