"""An HTTP/2 backend that does what a test tells it to."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from proxy.http2.blocks import BlockWriter
from proxy.http2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_events import apart
from tests.support.waiting import stop_accepting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from proxy.http2.events import Event
    from proxy.http2.headers import RequestHead

__all__ = ("Backend", "Connection")

WRITER = BlockWriter()
HEAD = WRITER.response(200, ((b"content-type", b"application/grpc"),))
OK = WRITER.trailers(((b"grpc-status", b"0"),))


class Connection(asyncio.Protocol):
    """One connection; `requests` are the heads it has seen, `resets` the codes of streams that were reset."""

    transport: asyncio.Transport

    def __init__(self, backend: Backend) -> None:
        self.session = ServerSession(backend.limits)
        self.backend = backend
        self.requests: dict[int, RequestHead] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        backend.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.wake()

    def data_received(self, data: bytes) -> None:
        self._handle(self.session.receive(data, time.monotonic()))
        if self.session.is_over:
            self.transport.close()

    def wake(self) -> None:
        """Write what there is."""
        if self.session.wants_to_send:
            self.transport.write(self.session.data_to_send())

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    def _handle(self, events: list[Event]) -> None:
        for event in apart(events):
            is_ended = False
            match event:
                case RequestReceived():
                    self.requests[event.stream_id] = event.head
                    self.bodies[event.stream_id] = b""
                    is_ended = event.is_ended
                case DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if self.backend.credits:
                        self.session.credit(event.stream_id, len(event.data))
                    is_ended = event.is_ended
                case TrailersReceived():
                    is_ended = True
                case StreamReset():
                    self.resets[event.stream_id] = event.code
                case _:
                    pass
            if is_ended:
                self.backend.respond(self, event.stream_id)  # type: ignore[union-attr]  # every one that ends has it
        self.wake()

    def answer(self, stream_id: int, body: bytes | None = None) -> None:
        """Echo the request's body, or say `body`."""
        self.session.send_message(stream_id, HEAD, self.bodies[stream_id] if body is None else body, OK)
        self.wake()


class Backend:
    """`respond(connection, stream_id)` is called with each whole request; the default echoes it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits(streams=1000)
        self.connections: list[Connection] = []
        self.credits = True
        self.respond: Callable[[Connection, int], None] = Connection.answer
        self.port = 0

    @asynccontextmanager
    async def running(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Backend]:
        """Listen on a port of this machine until the block ends."""
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), host, port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await stop_accepting(server)
            for connection in self.connections:
                connection.abort()
            await server.wait_closed()
