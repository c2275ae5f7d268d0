"""An HTTP/2 listener before a pipeline that a test writes, and a raw connection to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import pytest

from proxy.config.addresses import Address
from proxy.exchange import Call, Ledger, Reply, Stream
from proxy.http2.events import DataReceived, InterimReceived, ResponseReceived, TrailersReceived
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession
from proxy.ingress.http2 import Http2Server
from proxy.ingress.policy import (
    AuthPolicy,
    ForwardingPolicy,
    LimitPolicy,
    ServerTimeoutPolicy,
    ServerTlsPolicy,
)
from proxy.ingress.rules import HeadRules
from proxy.timing import LoopClock
from tests.support.http2_events import apart
from tests.support.waiting import PATIENCE_S
from tests.unit.http2.peers import WRITER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from ssl import SSLContext

    from proxy.errors import ProxyError
    from proxy.exchange import Headers
    from proxy.http2.events import Event
    from proxy.timing import Clock

    Listen = Callable[..., Awaitable["Stage"]]


class Stage:
    """`serve` answers calls; the default says 200 and nothing else. `calls` is what came in."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[Call], Awaitable[Reply]] = self._empty
        self.refused: list[ProxyError] = []
        self.listener: Http2Server

    async def _empty(self, call: Call) -> Reply:
        return Reply(200, ())

    async def serve(self, call: Call) -> Reply:
        self.calls.append(call)
        return await self.answer(call)

    def begin(self, call: Call, taker: object) -> None:
        """Every call has a task here."""

    def refuse(self, call: Call, error: ProxyError) -> None:
        self.refused.append(error)

    @asynccontextmanager
    async def connect(
        self, limits: Limits | None = None, *, tls: SSLContext | None = None, name: str | None = None
    ) -> AsyncIterator[Client]:
        """A client of our own, which by `tls` asks for the server `name`."""
        host, _, port = self.listener.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=name)
        try:
            yield Client(reader, writer, limits or Limits())
        finally:
            writer.close()


class Client:
    """A client session on a socket, read when a test wants something."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self.reader = reader
        self.writer = writer
        self.session = ClientSession(limits)
        self.events: list[Event] = []

    def flush(self) -> Self:
        """Write what the session has to say."""
        self.writer.write(self.session.data_to_send())
        return self

    def request(self, method: bytes, target: bytes, headers: Headers = (), body: bytes | None = b"") -> int:
        """Send a request; None leaves its body open."""
        block = WRITER.request(method, b"http", target, ((b"host", b"a"), *headers))
        is_head = method == b"HEAD"
        if body is None:
            stream_id = self.session.open(block, is_head=is_head)
        else:
            stream_id = self.session.open_whole(block, body, is_head=is_head)
        self.flush()
        return stream_id

    async def read_until(self, is_enough: Callable[[Event], bool]) -> list[Event]:
        """All events up to the first that is enough; gives windows back on the way."""
        seen: list[Event] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self.events:
                    seen.append(event := self.events.pop(0))
                    if is_enough(event):
                        return seen
                data = await self.reader.read(65_536)
                assert data, f"the connection ended after {seen}"
                self.events += apart(self.session.receive(data, now=0.0))
                for event in self.events:
                    if isinstance(event, DataReceived):
                        self.session.credit(event.stream_id, len(event.data))
                self.flush()

    async def answer(self, stream_id: int) -> tuple[int, dict[bytes, bytes], bytes, Headers]:
        """(status, fields, body, trailers) of the answer on a stream."""
        events = await self.read_until(lambda event: _ends(event, stream_id))
        status, fields, body = 0, dict[bytes, bytes](), b""
        trailers: Headers = ()
        for event in events:
            match event:
                case ResponseReceived(stream_id=of) if of == stream_id:
                    status, fields = event.head.status, dict(event.head.headers)
                    if event.head.content_length is not None:
                        fields[b"content-length"] = b"%d" % event.head.content_length
                case InterimReceived():
                    self.interim = event.head
                case DataReceived(stream_id=of) if of == stream_id:
                    body += event.data
                case TrailersReceived(stream_id=of) if of == stream_id:
                    trailers = event.headers
        return status, fields, body, trailers


async def read_all(call: Call) -> Reply:
    """Takes the whole body, says 200."""
    assert isinstance(call.body, Stream)
    while await call.body.read():
        pass
    return Reply(200, ())


def _ends(event: Event, stream_id: int) -> bool:
    if isinstance(event, TrailersReceived):
        return event.stream_id == stream_id
    if isinstance(event, ResponseReceived | DataReceived):
        return event.stream_id == stream_id and event.is_ended
    return False


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Start a listener with drawn policies."""
    stages: list[Stage] = []

    async def start(
        limits: dict[str, object] | None = None,
        timeouts: dict[str, object] | None = None,
        auth: dict[str, object] | None = None,
        forwarding: dict[str, object] | None = None,
        tls: dict[str, object] | None = None,
        clock: Clock | None = None,
    ) -> Stage:
        stage = Stage()
        policy = LimitPolicy.model_validate(limits or {})
        stage.listener = Http2Server(
            stage,
            Address("127.0.0.1", 0),
            HeadRules(
                policy,
                auth=AuthPolicy.model_validate(auth or {}),
                forwarding=ForwardingPolicy.model_validate(forwarding or {}),
            ),
            ServerTimeoutPolicy.model_validate(timeouts or {}),
            clock or LoopClock(),
            ledger=Ledger(policy.buffered),
            tls=ServerTlsPolicy.model_validate(tls) if tls else None,
        )
        await stage.listener.start()
        stages.append(stage)
        return stage

    yield start
    for stage in stages:
        await stage.listener.stop()


@pytest.fixture
async def stage(listen: Listen) -> Stage:
    """A listener with default policies."""
    return await listen()
