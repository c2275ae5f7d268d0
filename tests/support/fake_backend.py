"""A backend without sockets: transports that a test answers by hand, and a dialer that hands them out.

Each transport keeps what was written to it; `requests` cuts that into requests. Its file descriptor is an event
counter, so that `poll` sees it as silent until the test says `hang_up_unnoticed`: a FIN that the event loop has
not read yet. `is_spoilt` marks a connection that must carry no further request.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from typing import TYPE_CHECKING, TypeVar, cast

from proxy.errors import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FakeDialer", "FakeTransport", "PendingDial")

P = TypeVar("P", bound=asyncio.Protocol)

_REQUEST = re.compile(rb"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1\r\n.*?\r\n\r\n", re.DOTALL)


class FakeTransport(asyncio.Transport):
    """The backend's end of one connection, seen from the proxy's side."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.is_closed = False
        self._is_reading = True
        self.answered = 0
        self.can_half_close = True
        self.is_half_closed = False
        self.is_spoilt = False
        self.was_reused_when_spoilt = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    @property
    def requests(self) -> list[bytes]:
        """The targets of the requests written so far."""
        return [match["target"] for match in _REQUEST.finditer(bytes(self.written))]

    @property
    def unanswered(self) -> list[bytes]:
        """The targets of the requests that were not answered yet."""
        return self.requests[self.answered :]

    # ------------------------------------------------------------- what the backend does
    def send(self, data: bytes) -> None:
        """The event loop reads `data`."""
        if not self.is_closed:
            self.protocol.data_received(data)

    def answer(self, *fields: bytes) -> None:
        """Answer the oldest open request whole; the body is its target."""
        target = self.unanswered[0]
        self.answered += 1
        head = b"".join(field + b"\r\n" for field in fields)
        self.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(target), target))

    def send_unasked(self, data: bytes) -> None:
        """The event loop reads `data` although nothing was asked."""
        self.is_spoilt = True
        self.send(data)

    def hang_up(self) -> None:
        """The event loop reads a FIN."""
        if not self.is_closed and not self.protocol.eof_received():
            self.lose(None)

    def break_off_after(self, data: bytes) -> None:
        """The event loop reads `data`, then a FIN."""
        self.send(data)
        self.hang_up()

    def lose(self, error: Exception | None) -> None:
        """The event loop learns that the connection is gone."""
        if not self.is_closed:
            self.protocol.connection_lost(error)
            self.abort()

    def hang_up_unnoticed(self) -> None:
        """A FIN arrives, but the event loop has not read it."""
        self.is_spoilt = True
        if not self.is_closed:
            os.eventfd_write(self._fd, 1)

    # ------------------------------------------------------------- asyncio.Transport
    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        assert not self.is_closed, "written after the end"
        self.was_reused_when_spoilt |= self.is_spoilt
        self.written += data

    def writelines(self, list_of_data: object) -> None:
        for data in list_of_data:  # type: ignore[attr-defined]  # typeshed and the loop disagree on the element
            self.write(data)

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            os.close(self._fd)

    def close(self) -> None:
        self.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)

    def can_write_eof(self) -> bool:
        return self.can_half_close

    def write_eof(self) -> None:
        self.is_half_closed = True

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered here."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self if name == "socket" else default

    @property
    def family(self) -> int:
        """A kind of socket whose kernel buffers nobody bounds."""
        return socket.AF_UNIX

    def fileno(self) -> int:
        """What `poll` looks at."""
        return self._fd


class PendingDial:
    """A dial that ends when the test says so."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self.outcome: asyncio.Future[asyncio.Protocol] = asyncio.get_running_loop().create_future()

    def accept(self) -> FakeTransport:
        """The backend accepts."""
        protocol = self._protocol()
        transport = FakeTransport(protocol)
        protocol.connection_made(transport)
        self.outcome.set_result(protocol)
        return transport

    def refuse(self) -> None:
        """The backend refuses."""
        self.outcome.set_exception(ConnectFailed("connection refused"))


class FakeDialer:
    """Dials pend until the test decides, unless `is_eager`: then each succeeds at once."""

    def __init__(self, *, is_eager: bool = False) -> None:
        self.is_eager = is_eager
        self.on_gone: Callable[[frozenset[str]], None] | None = None
        self.pending: list[PendingDial] = []
        self.transports: list[FakeTransport] = []

    @property
    def open(self) -> list[FakeTransport]:
        """The connections that are open."""
        return [transport for transport in self.transports if not transport.is_closed]

    async def dial(self, protocol: Callable[[], P], timeout_s: float) -> tuple[P, str]:
        """As `Dialer.dial`."""
        pending = PendingDial(protocol)
        self.pending.append(pending)
        if self.is_eager:
            self.accept()
        try:
            return await pending.outcome, "192.0.2.1"  # type: ignore[return-value]  # made by `protocol`
        finally:
            if pending in self.pending:
                self.pending.remove(pending)

    def accept(self, index: int = 0) -> FakeTransport:
        """Let a pending dial succeed."""
        transport = self.pending.pop(index).accept()
        self.transports.append(transport)
        return transport

    def refuse(self, index: int = 0) -> None:
        """Let a pending dial fail."""
        self.pending.pop(index).refuse()
