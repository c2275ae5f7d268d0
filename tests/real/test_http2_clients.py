"""Other people's HTTP/2 clients before an HTTP/1.1 backend, in the clear and over TLS: curl, Node.js, httpx."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme

from tests.support.backend import backend
from tests.support.sidecar import pillion
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

SIZE = 300_000
CONFIG = """version: 1
server: {{grpc: {{listen: "127.0.0.1:0"{tls}}}}}
upstreams: {{model: {{http: ["{url}"], health: {{every: 0s}}}}}}
"""
NODE = """
const http2 = require("node:http2"), fs = require("node:fs");
const [origin, ca, size] = process.argv.slice(1);
const client = http2.connect(origin, ca ? {ca: fs.readFileSync(ca)} : {});
const post = () => new Promise((resolve, reject) => {
  const stream = client.request({":method": "POST", ":path": "/x", "content-type": "text/plain"});
  let status, received = 0;
  stream.on("response", (headers) => { status = headers[":status"]; });
  stream.on("data", (chunk) => { received += chunk.length; });
  stream.on("end", () => resolve([status, received]));
  stream.on("error", reject);
  stream.end(Buffer.alloc(Number(size)));
});
Promise.all(Array.from({length: 10}, post)).then((all) => { console.log(JSON.stringify(all)); client.close(); });
"""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1 that sends a request's body back, in chunks."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        body, fields = b"", head.lower()
        if b"transfer-encoding: chunked" in fields:
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif b"content-length: " in fields:
            body = await reader.readexactly(int(fields.partition(b"content-length: ")[2].split()[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if body:
            writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@pytest.fixture(params=["clear", "tls"])
async def origin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """(origin of the HTTP/2 listener, file of its authority or empty)."""
    tls = ""
    if request.param == "tls":
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        (tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        (tmp_path / "key.pem").chmod(0o600)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        tls = f", tls: {{cert: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}"
    config = tmp_path / "pillion.yaml"
    async with backend(echo) as url:
        config.write_text(CONFIG.format(tls=tls, url=url))
        async with pillion("-c", str(config)) as sidecar:
            port = sidecar.grpc.rpartition(":")[2]
            yield (
                (f"https://localhost:{port}", f"{tmp_path}/ca.pem")
                if tls
                else (f"http://127.0.0.1:{port}", "")
            )


async def run(*command: str) -> str:
    """What a program that must succeed prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_curl(origin: tuple[str, str], tmp_path: Path) -> None:
    url, authority = origin
    (tmp_path / "body").write_bytes(bytes(SIZE))
    trust = ("--http2", "--cacert", authority) if authority else ("--http2-prior-knowledge",)
    shown = "%{http_version} %{http_code} %{size_download}"
    out = await run(
        *("curl", "-sS", *trust, "-o", "/dev/null", "-w", shown, "--data-binary", f"@{tmp_path}/body"),
        f"{url}/x",
    )
    assert out == f"2 200 {SIZE}"


async def test_node(origin: tuple[str, str]) -> None:
    url, authority = origin
    assert json.loads(await run("node", "-e", NODE, url, authority, str(SIZE))) == [[200, SIZE]] * 10


async def test_httpx(origin: tuple[str, str]) -> None:
    url, authority = origin
    verify = ssl.create_default_context(cafile=authority) if authority else True
    async with httpx.AsyncClient(http1=False, http2=True, verify=verify, timeout=PATIENCE_S) as client:
        answers = await asyncio.gather(*(client.post(f"{url}/x", content=bytes(SIZE)) for _ in range(10)))
    assert {(answer.http_version, answer.status_code, len(answer.content)) for answer in answers} == {
        ("HTTP/2", 200, SIZE)
    }
