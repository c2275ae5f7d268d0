"""A small HTTP backend whose manners a test chooses, for many requests rather than for one dialogue.

It echoes each request's target as the body of its answer and counts how often each was executed, so that mixed-up
answers and repeated executions show. What happens beside that is up to `Manners`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, cast

from tests.support.waiting import stop_accepting

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = ("Manners", "RawBackend", "in_another_thread")


@dataclass
class Manners:
    """How a backend behaves.

    `status` of its answers; `delay_s` before each; `close_after_s` is when it closes a connection after an
    answer without having said so (0: at once, None: never); `chatter` are bytes that it sends `chatter_after_s`
    after an answer although nobody asked; `garbage` is answered instead of HTTP; `stuck_once` leaves the next call
    without an answer; `fatal` is the target that makes it drop its connections; `health` is the status of ``/health``.
    """

    status: int = 200
    delay_s: float = 0.0
    close_after_s: float | None = None
    chatter: bytes = b""
    chatter_after_s: float = 0.0
    garbage: bool = False
    stuck_once: bool = False
    fatal: bytes = b""
    health: int = 200


class _Peer(asyncio.Protocol):
    """One connection of a `RawBackend`."""

    def __init__(self, backend: RawBackend) -> None:
        self.backend = backend
        self.transport: asyncio.Transport
        self.received = b""
        self.timers: list[asyncio.TimerHandle] = []
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.backend.connections += 1
        self.backend.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.backend.peers.discard(self)
        self.lost.set()
        for timer in self.timers:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            target = head.split()[1]
            self.backend.asked[target] += 1
            self.later(self.backend.manners.delay_s, partial(self.answer, target))

    def later(self, span_s: float, action: Callable[[], object]) -> None:
        if span_s:
            self.timers.append(asyncio.get_running_loop().call_later(span_s, action))
        else:
            action()

    def answer(self, target: bytes) -> None:
        manners = self.backend.manners
        is_probe = target == b"/health"
        status = manners.health if is_probe else manners.status
        if not is_probe:
            self.backend.executed[target] += 1
            if target == manners.fatal:
                self.transport.abort()
                return
            if manners.stuck_once:
                manners.stuck_once = False
                return
            if manners.garbage:
                self.transport.write(b"garbage")
                return
        self.transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(target), target))
        if manners.chatter:
            self.later(manners.chatter_after_s, partial(self.chatter, manners.chatter))
        if manners.close_after_s is not None:
            self.later(manners.close_after_s, self.transport.close)

    def chatter(self, data: bytes) -> None:
        self.transport.write(data)
        self.backend.chattered += 1


class RawBackend:
    """Listens on a free port of this machine; `url` says where. It can be stopped and started again.

    `asked` counts the requests that came, by target, `executed` those that were answered, and `chattered` how often
    it spoke unasked.
    """

    def __init__(
        self,
        manners: Manners | None = None,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        path: str = "",
    ) -> None:
        self.manners = manners or Manners()
        self.asked: Counter[bytes] = Counter()
        self.executed: Counter[bytes] = Counter()
        self.chattered = 0
        self.connections = 0
        self.peers: set[_Peer] = set()
        self.port = port
        self._tls = tls
        self._path = path
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._path:
            return f"unix:{self._path}"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        loop = asyncio.get_running_loop()
        if self._path:
            self._server = await loop.create_unix_server(lambda: _Peer(self), self._path)
            return
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            await stop_accepting(self._server)
            self._server = None
        peers = tuple(self.peers)
        for peer in peers:
            peer.transport.abort()
        await asyncio.gather(*(peer.lost.wait() for peer in peers))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


@contextlib.contextmanager
def in_another_thread(backend: RawBackend) -> Iterator[RawBackend]:
    """Run `backend` on an event loop of its own, so that it races with whoever talks to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(backend.start(), loop).result()
        yield backend
    finally:
        asyncio.run_coroutine_threadsafe(backend.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
