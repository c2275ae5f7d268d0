"""A client that costs less than what it talks to: one keep-alive connection, one request at a time, no tasks.

Owned by whoever drives load. It waits for bytes; each whole answer calls back, from within which the next
request may be sent; it ends with the transport, which calls back too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ClientConnection", "connect", "get", "post")


def get(url: str, path: str) -> bytes:
    """The bytes of a GET of `path` at the server `url`."""
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()


def post(url: str, path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """The bytes of a POST to `path` at the server `url`."""
    host = urlsplit(url).netloc
    fields = f"Host: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode() + body


class ClientConnection(asyncio.Protocol):
    """Calls `answered(connection, status, body)` for each answer, `lost(connection)` at the end."""

    __slots__ = (
        "_answer",
        "_answered",
        "_begun",
        "_body",
        "_is_between",
        "_lost",
        "_parser",
        "_read",
        "_transport",
        "in_flight",
    )

    def __init__(
        self,
        answered: Callable[[ClientConnection, int, bytes], object],
        lost: Callable[[ClientConnection], object],
    ) -> None:
        self._answered = answered
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._transport: asyncio.Transport
        self._is_between = True
        self._begun = 0
        self._read = b""
        self._answer = (0, b"")
        self.in_flight: tuple[int, float] | None = None
        """Index and instant of the unanswered request, for the driver; None when there is none."""

    def send(self, request: bytes, index: int, at: float) -> None:
        """Write one whole request, the driver's number `index`, due at the instant `at`."""
        self.in_flight = (index, at)
        self._transport.write(request)

    def close(self) -> None:
        """End the connection; `lost` is still called."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to send."""
        self._transport = cast("asyncio.Transport", transport)  # create_connection makes no other kind

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended, for whatever reason."""
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer; what is not HTTP ends the connection."""
        if data == self._read:  # most answers under load are the last one again
            self._answered(self, *self._answer)
            return
        was_between, self._begun, self._read = self._is_between, 0, b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()
            return
        if was_between and self._begun == 1 and self._is_between:
            self._read = data

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._begun += 1
        self._is_between = False

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._is_between = True
        body, self._body = self._body, []
        self._answer = (self._parser.get_status_code(), body[0] if len(body) == 1 else b"".join(body))
        self._answered(self, *self._answer)


async def connect(
    url: str,
    answered: Callable[[ClientConnection, int, bytes], object],
    lost: Callable[[ClientConnection], object],
) -> ClientConnection:
    """A new connection to the server `url`."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: ClientConnection(answered, lost), parts.hostname or "127.0.0.1", parts.port or 80
    )
    return connection
