"""A listener with a certificate of a private authority, and clients that trust it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trustme

from tests.integration.http.conformance import Backend
from tests.support.client_certificates import issue_client
from tests.support.raw_client import request
from tests.support.stage import Stage, stage
from tests.support.waiting import PATIENCE_S
from tests.support.wire import RawMessage, read_message, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ("NAME", "OURS", "ask", "client_context", "issue", "listening", "mutual", "showing")

OURS = trustme.CA()
NAME = "model.example"


def issue(folder: Path, authority: trustme.CA = OURS) -> dict[str, str]:
    """Certificate and key for `NAME`, as settings of the listener."""
    certificate = authority.issue_cert(NAME)
    cert, key = folder / "cert.pem", folder / "key.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(cert))
    certificate.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return {"cert": str(cert), "key": str(key)}


def client_context(authority: trustme.CA = OURS) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def listening(
    tls: Mapping[str, object], protocol: str = "generic", **server: object
) -> AsyncIterator[tuple[Stage, Backend]]:
    async with (
        Backend([response(b"ok")]) as backend,
        stage(backend.url, protocol=protocol, server={"http": {"tls": tls}, **server}) as front,
    ):
        yield front, backend


async def ask(
    front: Stage,
    context: ssl.SSLContext,
    *lines: bytes,
    host: bytes = b"model.example",
    name: str = NAME,
    target: bytes = b"/",
) -> RawMessage:
    port = int(front.url.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        try:
            writer.write(request(b"GET", target, b"", *lines, host=host))
            return await read_message(reader, until_close=True)
        finally:
            writer.close()


def mutual(folder: Path, *names: str) -> dict[str, object]:
    """Settings of a listener that asks for certificates of our authority with one of `names`."""
    OURS.cert_pem.write_to_path(str(folder / "ca.pem"))
    return issue(folder) | {"client_ca": str(folder / "ca.pem"), "client_names": names}


def showing(folder: Path, *names: str) -> ssl.SSLContext:
    """A client that shows a certificate of our authority for `names`."""
    context = client_context()
    context.load_cert_chain(issue_client(OURS, folder / "client.pem", *names))
    return context
