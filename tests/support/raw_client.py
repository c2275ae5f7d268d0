"""A client that sends exactly the bytes it is given and reads answers by their framing.

    async with RawClient(url) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await client.receive()
        assert answer.status == 200

Every wait has the same bound, so that a proxy that hangs fails the test at the line that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE_S
from tests.support.wire import RawMessage, read_message

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("RawClient", "request")


def request(
    method: bytes = b"GET", target: bytes = b"/", body: bytes = b"", *headers: bytes, host: bytes = b"model"
) -> bytes:
    """A whole request; it has a Content-Length when it has a body. `headers` are lines without line ends."""
    lines = [b"%s %s HTTP/1.1" % (method, target), b"Host: " + host]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, *headers)) + b"\r\n\r\n" + body


class RawClient:
    """One connection."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._receive_buffer = receive_buffer
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        peer = socket.socket()
        peer.setblocking(False)
        if self._receive_buffer is not None:  # must precede the connect to bound the TCP window
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(peer, self._address)
            self._reader, self._writer = await asyncio.open_connection(sock=peer, limit=1 << 20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the other side may have broken it: that was the test
            await self._writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Write exactly these bytes."""
        self._writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self._writer.drain()

    async def receive(self, *, to_head: bool = False, skip_interim: bool = True) -> RawMessage:
        """The next whole response; interim (1xx) ones are skipped unless wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await read_message(self._reader, has_body=not to_head, until_close=True)
                if message.status >= 200 or not skip_interim:
                    return message

    async def ask(
        self, method: bytes = b"GET", target: bytes = b"/", body: bytes = b"", *headers: bytes
    ) -> RawMessage:
        """Send one request, return its answer."""
        await self.send(request(method, target, body, *headers))
        return await self.receive(to_head=method == b"HEAD")

    async def read_some(self, most: int = 65536) -> bytes:
        """What is there, at least one byte; ``b""`` when the peer has closed."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read(most)

    async def read_to_end(self) -> bytes:
        """All bytes until the peer closes; a reset raises `ConnectionResetError`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()

    def half_close(self) -> None:
        """FIN: nothing more will be sent, answers are still read."""
        self._writer.write_eof()

    def vanish(self) -> None:
        """Close without waiting for what is still to be sent: the kernel goes on trying."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """RST."""
        peer = self._writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
