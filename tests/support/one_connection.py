"""One connection to a backend on a fake socket, and an owner that writes down what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from proxy.exchange import Call, Reply, Stream
from proxy.pooling.alarm import Alarm
from proxy.pooling.connection import Connection
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.policy import TimeoutPolicy
from proxy.timing import NEVER, Deadline
from tests.support.clock import FakeClock
from tests.support.fake_backend import FakeTransport

if TYPE_CHECKING:
    import asyncio


__all__ = ("CHUNKED", "HEAD", "MIB", "SWITCH", "OwnerOfOne", "get", "post", "upgrade")


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
MIB = 1 << 20


class OwnerOfOne:
    """Keeps one connection and writes down what it says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.alarm = Alarm(self.clock, self._expire)
        self.heads = HeadTable()
        self.timeouts = TimeoutPolicy.model_validate({"first_byte": "2s", "idle": "5s"})
        self.authority = b"model"
        self.said: list[str] = []
        self.connection = Connection(self)
        self.transport = FakeTransport(cast("asyncio.Protocol", self.connection))
        self.connection.connection_made(self.transport)

    def _expire(self, now: float) -> float:
        if self.connection.overdue_at() <= now:
            self.connection.expire(now)
        return self.connection.overdue_at()

    def announced(self, timeout_s: float) -> None:
        self.said.append(f"announced {timeout_s:g}")

    def streaming(self, connection: Connection) -> None:
        self.said.append("streaming")

    def held_up(self, connection: Connection) -> None:
        self.held_up_at = connection.held_up_since

    def released(self, connection: Connection) -> None:
        self.said.append("released")

    def lost(self, connection: Connection) -> None:
        self.said.append(f"lost {connection.ended}")

    # ------------------------------------------------------------- shorthand
    def send(self, call: Call) -> asyncio.Future[Reply]:
        return self.connection.send(call, self.clock.now())

    def stream(self, length: int | None = None) -> Stream:
        """Ask, and get a streamed answer."""
        waiter = self.send(get())
        framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        self.transport.send(HEAD + framing + b"\r\n\r\n")
        body = waiter.result().body
        assert isinstance(body, Stream)
        return body

    def chunk(self, data: bytes) -> None:
        self.transport.send(b"%x\r\n%b\r\n" % (len(data), data))


def get(deadline: Deadline = NEVER) -> Call:
    return Call(b"GET", b"/", ((b"Host", b"m"),), deadline=deadline)


def post(body: bytes | Stream) -> Call:
    return Call(b"POST", b"/", ((b"Host", b"m"),), body)


def upgrade(body: Stream) -> Call:
    call = Call(b"GET", b"/ws", ((b"Host", b"m"),), body)
    call.upgrade = b"echo"
    return call
