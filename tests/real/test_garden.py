"""The same bytes to Pillion in front of servers of other people: none reads a message where Pillion does not.

Each server answers with what it understood (method and body length), so every answer names the message that it belongs
to. h11 says which messages the bytes hold. An answer to anything else, or one out of turn, is a
disagreement about where a message ends.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.demo.processes import free_port
from tests.integration.http.cases import CASES
from tests.property.test_request_reader import read_by_h11
from tests.support.raw_client import RawClient
from tests.support.stage import stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.real

# h11 knows no bytes beyond ASCII in a request line.
SENT = sorted(
    {case.sent for case in CASES if len(case.sent) < 8000 and case.sent.partition(b"\r\n")[0].isascii()}
)

UVICORN = """
import sys, uvicorn
async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    text = b"%b - %d" % (scope["method"].encode(), len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="critical", http=sys.argv[2])
"""
AIOHTTP = """
import sys
from aiohttp import web
async def answer(request):
    return web.Response(text=f"{request.method} - {len(await request.read())}")
async def main():
    return web.Server(answer)
import asyncio
async def run():
    runner = web.ServerRunner(await main())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()
asyncio.run(run())
"""
NODE = """
require("http").createServer((request, response) => {
  let size = 0;
  request.on("data", (piece) => { size += piece.length; });
  request.on("end", () => response.end(`${request.method} - ${size}`));
}).listen(Number(process.argv[1]), "127.0.0.1");
"""
NGINX = """
daemon off; master_process off; pid %(folder)s/pid; error_log /dev/null;
events {}
http {
  access_log off; client_body_temp_path %(folder)s/body; merge_slashes off;
  proxy_temp_path %(folder)s/p; fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u; scgi_temp_path %(folder)s/s;
  server {
    listen 127.0.0.1:%(port)d;
    location / { return 200 "$request_method - $http_content_length"; }
  }
}
"""


def commands(port: int, folder: Path) -> dict[str, list[str]]:
    conf = folder / "nginx.conf"
    conf.write_text(NGINX % {"folder": folder, "port": port}, encoding="utf-8")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return {
        "uvicorn-h11": [sys.executable, "-c", UVICORN, str(port), "h11"],
        "uvicorn-httptools": [sys.executable, "-c", UVICORN, str(port), "httptools"],
        "aiohttp": [sys.executable, "-c", AIOHTTP, str(port)],
        "node": ["node", "-e", NODE, str(port)],
        "nginx": [nginx, "-c", str(conf)],
    }


@asynccontextmanager
async def running(name: str, folder: Path) -> AsyncIterator[str]:
    """The URL of the server `name`."""
    port = free_port()
    command = commands(port, folder)[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
        writer.close()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def answers(url: str, sent: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of every answer to `sent`."""
    seen = []
    async with RawClient(url) as client:
        await client.send(sent)
        client.half_close()
        try:
            while True:
                answer = await client.receive(to_head=sent.startswith(b"HEAD"))
                seen.append((answer.status, answer.body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return seen


def is_about(body: bytes, message: tuple[bytes, bytes, bytes], server: str) -> bool:
    """True when `body` is what `server` says when it has understood `message`."""
    method, _, size = body.split(b" ")
    if server == "nginx" and not size:  # it says what was declared, and of a chunked body that is nothing
        return method == message[0]
    return (method, size) == (message[0], b"%d" % len(message[2]))


@pytest.mark.parametrize("server", ["uvicorn-h11", "uvicorn-httptools", "aiohttp", "node", "nginx"])
async def test_no_disagreement_about_messages(server: str, tmp_path: Path) -> None:
    disagreements: list[object] = []
    async with running(server, tmp_path) as url, stage(url) as front:
        for sent in SENT:
            messages = read_by_h11(sent)
            seen = await answers(front.url, sent)
            for (status, body), message in zip(seen, messages, strict=False):
                if status == 200 and body and not is_about(body, message, server):
                    disagreements.append((sent, body, message))
            if sum(status == 200 for status, _ in seen) > len(messages):
                disagreements.append((sent, b"more answers than messages", messages))
    assert disagreements == []
