"""HTTP/1.1 messages as bytes, read strictly by their framing: an oracle without the product's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ("RawMessage", "read_message", "response")

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class RawMessage:
    """One request or response. `start` is its first line; header names keep their case."""

    start: bytes
    headers: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)

    @property
    def status(self) -> int:
        """Status code of a response."""
        return int(self.start.split(b" ")[1])

    @property
    def target(self) -> bytes:
        """Target of a request."""
        return self.start.split(b" ")[1]

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name`, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: bytes) -> list[bytes]:
        """All values of the field `name`."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


async def read_message(
    reader: asyncio.StreamReader, *, has_body: bool = True, until_close: bool = False
) -> RawMessage:
    """One whole message.

    `has_body` is False for the answer to a HEAD; `until_close` says that a message without framing ends with
    the connection (a response), not with its head (a request). Raises `asyncio.IncompleteReadError` when the
    peer ends the connection before the message is whole.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head[:-4].split(b"\r\n")
    message = RawMessage(start, [_field(line) for line in lines])
    if not has_body or (until_close and _is_bodyless(message.status)):
        return message
    length = message.header(b"content-length")
    if (message.header(b"transfer-encoding") or b"").lower() == b"chunked":
        await _read_chunks(reader, message)
    elif length is not None:
        message.body = await reader.readexactly(int(length))
    elif until_close:
        message.body = await reader.read()
    return message


def _is_bodyless(status: int) -> bool:
    return status < 200 or status in {204, 304}


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    assert colon, f"not a header field: {line!r}"
    assert name == name.strip(), f"whitespace around a field name: {line!r}"
    return name, value.strip()


async def _read_chunks(reader: asyncio.StreamReader, message: RawMessage) -> None:
    parts = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        data = await reader.readexactly(size + 2)
        assert data.endswith(b"\r\n"), f"a chunk of {size} bytes is longer: {data[-10:]!r}"
        parts.append(data[:-2])
    message.body = b"".join(parts)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        message.trailers.append(_field(line[:-2]))


def response(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response with a Content-Length; `headers` are lines without their line ends."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
