"""A listener that passes bytes on and looks at none of them: for an upstream that needs nothing of the proxy.

`L4Server` is a component of the lifecycle (start, drain, stop), owner of its connections; a connection owns
its one task. Each client gets a connection of its own to an endpoint that the upstream's cluster chooses, by
the same health, ejection and retries as calls. TLS goes through untouched: neither ended nor begun here.

Both directions are coupled by the bodies' watermarks: the client's bytes are a `Stream` that the backend's
connection reads, the backend's a `Stream` that a `Relay` passes to the client; whoever reads slowly stops the
other side's reading. Either side may close its half. A connection that breaks on one side is reset on the
other. Nothing tells such a client that the proxy leaves: `drain` waits for clients to end by themselves,
`stop` breaks off what is left.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.errors import ClientGone, ProxyError, UpstreamError
from proxy.exchange import Call, Stream
from proxy.ingress.binding import Listener
from proxy.kernel_buffers import FROM_AFAR, bound_receiving
from proxy.streaming.relay import Relay
from proxy.telemetry.error_log import ErrorLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.config.addresses import Address
    from proxy.exchange import Ledger, Reply
    from proxy.timing import Clock

__all__ = ("L4Server",)

log = logging.getLogger(__name__)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for zero seconds


class _Upstream(Protocol):
    """What a listener needs of the cluster behind it."""

    name: str

    async def exchange(self, call: Call) -> Reply:
        """Connect; the reply's body is what the backend sends."""


class L4Server:
    """Accepts clients at `place` and connects each to `cluster`; at most `most` at once.

    `ledger` is shared with the other listeners: bytes that wait for a slow reader count there.
    """

    def __init__(
        self, cluster: _Upstream, place: Address, clock: Clock, *, ledger: Ledger, most: int
    ) -> None:
        self.cluster = cluster
        self.upstream = cluster.name
        self.clock = clock
        self.ledger = ledger
        self.address = ""
        self.outcomes: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.errors = ErrorLog(log, clock.now)
        self._most = most
        self._clients: set[_Client] = set()
        self._empty = asyncio.Event()
        self._listener = Listener(place, lambda: _Client(self))

    # ------------------------------------------------------------- for its connections
    @property
    def is_crowded(self) -> bool:
        """True when there are more clients than are allowed."""
        return len(self._clients) > self._most

    def joined(self, client: _Client) -> None:
        """A client has connected."""
        self._clients.add(client)
        self._empty.clear()

    def left(self, client: _Client, outcome: str) -> None:
        """A client's connection is gone."""
        self.outcomes[outcome] += 1
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()

    def samplers(self) -> dict[str, Callable[[], Iterator[tuple[tuple[str, ...], float]]]]:
        """Samplers by metric name: (label values, value) pairs."""
        return {
            "l4_connections_total": lambda: self._each(self.outcomes),
            "l4_bytes_total": lambda: self._each(self.passed),
        }

    def _each(self, counts: Counter[str]) -> Iterator[tuple[tuple[str, ...], float]]:
        for label, count in counts.items():
            yield (self.upstream, label), count

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Bind and accept; `address` says where. OSError when the address cannot be had."""
        self._empty.set()
        self.address = str(await self._listener.open())

    async def drain(self, deadline: float) -> None:
        """Accept nothing new and wait until the last client has left; cancelled at `deadline`."""
        self._listener.close()
        await self._empty.wait()

    async def stop(self) -> None:
        """Break off what is left."""
        self._listener.remove()
        for client in tuple(self._clients):
            client.break_off("shed")
        await self._empty.wait()


class _Passed:
    """Counts the bytes of one direction; a `Watch`."""

    __slots__ = ("_counts", "_direction")

    def __init__(self, counts: Counter[str], direction: str) -> None:
        self._counts = counts
        self._direction = direction

    def passed(self, data: bytes | memoryview) -> None:
        self._counts[self._direction] += len(data)

    def paused(self) -> None: ...

    def resumed(self) -> None: ...

    def closed(self) -> None: ...


class _Client(asyncio.Protocol):
    """One client's connection, and the `Flow` of what it sends."""

    def __init__(self, server: L4Server) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._inbound = Stream(self)
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._outcome = "client"

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to look for an endpoint."""
        server = self._server
        self._transport = cast("asyncio.Transport", transport)
        server.joined(self)
        if server.is_crowded:
            self.break_off("shed")
            return
        bound_receiving(transport, FROM_AFAR)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client that vanishes is noticed
        self._inbound.account(server.ledger)
        self._inbound.observe(_Passed(server.passed, "request"))
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Bytes for the backend."""
        self._inbound.feed(data)

    def eof_received(self) -> bool:
        """The client has said its last byte and may still listen."""
        self._inbound.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or we have closed."""
        self._inbound.fail(ClientGone())
        if self._task is not None:
            self._task.cancel()
        self._server.left(self, self._outcome)

    def pause_writing(self) -> None:
        """The client reads slowly."""
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._relay is not None:
            self._relay.resume()

    # ------------------------------------------------------------- Flow of what the client sends
    def pause(self) -> None:
        """The backend reads slowly."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """The backend has caught up."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon(self) -> None:
        """The backend is gone; `_serve` hears of it by what the backend sends."""

    # ------------------------------------------------------------- the client's one task
    async def _serve(self) -> None:
        try:
            reply = await self._server.cluster.exchange(Call(b"CONNECT", b"", (), self._inbound))
        except ProxyError as error:
            self._server.errors.report(
                error.reason, "%s: no connection: %s", self._server.upstream, str(error)
            )
            self.break_off("refused" if isinstance(error, UpstreamError) else "shed")
            return
        body = cast("Stream", reply.body)
        try:
            await self._pass_on(body)
        except ProxyError:
            self.break_off("upstream")
        finally:
            body.abandon()

    async def _pass_on(self, body: Stream) -> None:
        """To the end of both directions; raises what the backend's broke off with."""
        body.account(self._server.ledger)
        body.observe(_Passed(self._server.passed, "response"))
        self._relay = Relay(body, self._transport, self._server.clock)
        await self._relay.run(b"")
        self._relay = None
        if not self._transport.is_closing():
            self._transport.write_eof()
        is_done = asyncio.Event()
        self._inbound.on_close(is_done.set)
        await is_done.wait()
        self._outcome = "ok"
        self._transport.close()

    def break_off(self, outcome: str) -> None:
        """Close by RST: a FIN would say that everything was passed on."""
        self._outcome = outcome
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
