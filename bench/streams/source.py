"""``python -m bench.streams.source``: a model server that computes nothing and streams for ever.

| request | answer |
|---|---|
| ``GET /events/GAP_US[/N]`` | N server-sent events (default: no end), one each GAP_US µs (0: no gap) |
| ``GET /bytes/N[?chunked]`` | N bytes |
| ``POST /take/RATE`` | the body is read at RATE bytes per second, then 204 |
| ``GET /sent`` | ``{"sent": bytes of answers under way, "taken": bytes of bodies read}`` |
| ``GET /small`` | the same few bytes every time |
| ``GET /hang``, ``POST /v1/…`` | never |
| ``GET /left`` | ``{"busy": answers under way or awaited, "left_at": [when each lost its client, ns]}`` |

Each event looks like a chat completion's and says when it was made, so that a reader can tell its age. Prints
``{"url": …}`` when it listens.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Final, cast

import uvloop

from bench.streams.reader import CATCH_UP_S

__all__ = ("EVENT_BYTES", "event")

_BLOCK: Final = bytes(range(256)) * 1024
_CHOICE: Final = b'{"index":0,"delta":{"content":"word "},"finish_reason":null}'
_REST: Final = b',"object":"chat.completion.chunk","model":"none","choices":[%b]}\n\n' % _CHOICE
_SSE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event() -> bytes:
    """One event, stamped with the monotonic clock in nanoseconds (16 digits)."""
    return b'data: {"at":%016d%b' % (time.monotonic_ns(), _REST)


EVENT_BYTES: Final = len(event())


class Connection(asyncio.Protocol):
    """One client; one answer at a time."""

    open: Final[set[Connection]] = set()
    left_at: Final[list[int]] = []

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._gap_s = -1.0
        self._is_chunked = False
        self._is_writable = True
        self._is_hanging = False
        self._to_take = 0
        self._take_rate = 0.0
        self._take_due = 0.0
        self.sent = 0
        self.taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it."""
        self._transport = cast("asyncio.Transport", transport)
        self.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        if self.is_busy:
            self.left_at.append(time.monotonic_ns())
        self._left = self._to_take = 0
        self.open.discard(self)

    def pause_writing(self) -> None:
        """The reader is slow."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._is_writable = True
        if self._gap_s <= 0:
            self._pour()

    def data_received(self, data: bytes) -> None:
        """One request's head in one read: nobody else speaks to this server."""
        if self._to_take:
            self._take(len(data))
            return
        path, _, query = data.split(b" ", 2)[1].partition(b"?")
        words = path.split(b"/")[1:]
        if words[0] == b"events":
            self._gap_s = int(words[1]) / 1e6
            self._left = int(words[2]) if len(words) > 2 else sys.maxsize
            self._transport.write(_SSE)
            if self._gap_s:
                self._loop.call_later(random.random() * self._gap_s, self._tick)
            else:
                self._pour()
        elif words[0] == b"bytes":
            self._left, self._gap_s, self.sent = int(words[1]), -1.0, 0
            self._is_chunked = query == b"chunked"
            length = b"Content-Length: %d" % self._left
            framing = b"Transfer-Encoding: chunked" if self._is_chunked else length
            self._transport.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
            self._pour()
        elif words[0] == b"take":
            head, _, body = data.partition(b"\r\n\r\n")
            self._to_take = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self._take_rate, self._take_due, self.taken = float(words[1]), self._loop.time(), 0
            self._take(len(body))
        elif words[0] in {b"hang", b"v1"}:
            self._is_hanging = True
        elif words[0] == b"small":
            self._answer(b'{"is": "small"}')
        elif words[0] == b"left":
            busy = sum(connection.is_busy for connection in self.open)
            self._answer(json.dumps({"busy": busy, "left_at": self.left_at}).encode())
        else:
            sent = sum(connection.sent for connection in self.open if connection.is_pouring)
            taken = sum(connection.taken for connection in self.open)
            self._answer(b'{"sent": %d, "taken": %d}' % (sent, taken))

    def _answer(self, body: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _take(self, size: int) -> None:
        """So much of a body has come; read no more of it before its time."""
        self.taken += size
        self._to_take -= size
        if not self._to_take:
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        now = self._loop.time()
        self._take_due = max(self._take_due, now - CATCH_UP_S) + size / self._take_rate
        if self._take_due > now:
            self._transport.pause_reading()
            self._loop.call_at(self._take_due, self._transport.resume_reading)

    @property
    def is_busy(self) -> bool:
        """Whether a client waits for something."""
        return self._is_hanging or self._left > 0

    @property
    def is_pouring(self) -> bool:
        """Whether an answer is on its way."""
        return self._left > 0

    def _tick(self) -> None:
        if self._left and not self._transport.is_closing():
            self._left -= 1
            if self._is_writable:
                self._write_event()
            self._loop.call_later(self._gap_s, self._tick)

    def _write_event(self) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (EVENT_BYTES, event()))
        if not self._left:
            self._transport.write(b"0\r\n\r\n")

    def _pour(self) -> None:
        while self._is_writable and self._left and not self._transport.is_closing():
            if not self._gap_s:
                self._left -= 1
                self._write_event()
                continue
            block = _BLOCK[: self._left]
            self._left -= len(block)
            self.sent += len(block)
            if self._is_chunked:
                self._transport.writelines((b"%x\r\n" % len(block), block, b"\r\n"))
            else:
                self._transport.write(block)
            if self._is_chunked and not self._left:
                self._transport.write(b"0\r\n\r\n")


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=8192)
    print(f'{{"url": "http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}', flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
