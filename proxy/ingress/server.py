"""The HTTP/1.1 listener: aiohttp's low-level server with our own connections, and what these share.

A component of the lifecycle (start, drain, stop). It owns its listening socket, its connections and two
timers: the scan, which judges every connection's progress and keeps the date, and the watch, which runs
only while some client may have left without its connection telling (see `proxy.ingress.http`). It waits for
nothing but its connections' ends when it drains.
"""

from __future__ import annotations

import logging
import resource
from email.utils import formatdate
from os import urandom
from typing import TYPE_CHECKING, Final, Protocol, cast

from aiohttp.web import Server

from proxy.exchange import Call, Ledger
from proxy.ingress.binding import Listener
from proxy.ingress.headers import HeadWriter
from proxy.ingress.http import ClientConnection
from proxy.ingress.patience import Attention
from proxy.ingress.presence import PeerProbe
from proxy.ingress.tls import TlsFront, hop_of
from proxy.telemetry.error_log import ErrorLog
from proxy.timing import LoopClock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from aiohttp.web import StreamResponse
    from aiohttp.web_protocol import RequestHandler

    from proxy.config.addresses import Address
    from proxy.errors import ProxyError
    from proxy.exchange import Reply
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.policy import ServerTimeoutPolicy, ServerTlsPolicy
    from proxy.ingress.presence import Glance, PeerState
    from proxy.ingress.rules import HeadRules

__all__ = ("HttpServer", "Serve", "new_ids")

log = logging.getLogger(__name__)

# The kernel's own cap (net.core.somaxconn) is the smaller one on most machines.
_LONGEST_SCAN_S: Final = 1.0  # the date's own resolution
_SHORTEST_SCAN_S: Final = 0.01
_INSPECTED_AT_ONCE: Final = 500
_WATCH_S: Final = 0.04
_DEEP_EVERY: Final = 25  # a look at the kernel's tables for each half-closed client once a second
_DESCRIPTORS_FOR_OTHERS: Final = 256  # pools, files, the admin port
_IDS_AT_ONCE: Final = 64


class Serve(Protocol):
    """What a connection needs of the pipeline."""

    async def serve(self, call: Call) -> Reply:
        """Answer `call`; raises `ProxyError` for what Pillion answers itself."""

    def refuse(self, call: Call, error: ProxyError) -> None:
        """Account for a call that is answered with `error` before it could be served; `call.dialect` then
        says in whose words."""


class HttpServer(Server):
    """Accepts client connections at `place` and serves them by `rules`.

    `ledger` is shared with the other listeners, so that its limit holds for all. `tls` makes it an HTTPS
    listener.
    """

    def __init__(
        self,
        pipeline: Serve,
        place: Address,
        rules: HeadRules,
        timeouts: ServerTimeoutPolicy,
        *,
        ledger: Ledger | None = None,
        tls: ServerTlsPolicy | None = None,
    ) -> None:
        super().__init__(_unused_handler, handler_cancellation=True)
        self.pipeline = pipeline
        self.rules = rules
        self.timeouts = timeouts
        self.ledger = ledger or Ledger(rules.limits.buffered)
        self.heads = HeadWriter(rules.via)
        self.new_ids = new_ids().__next__
        self.clock = LoopClock(self._loop)
        self.newest = Call(b"", b"", ())
        self.is_draining = False
        self.address = ""
        self._tls = TlsFront(tls, room=self._room) if tls is not None else None
        self._most_connections = rules.limits.connections
        self._errors = ErrorLog(log, self._loop.time)
        self._probe = PeerProbe()
        self._listener = Listener(place, self)
        self._watched: set[ClientConnection] = set()
        self._looks = 0
        self._watch_timer: asyncio.TimerHandle | None = None
        self._scan_timer: asyncio.TimerHandle | None = None
        spans = (timeouts.header, timeouts.body_stall, timeouts.keepalive, timeouts.write_stall)
        self._scan_s = min(_LONGEST_SCAN_S, max(_SHORTEST_SCAN_S, min(spans) / 4))
        self.attention = Attention(self._scan_s, self._loop.time())

    def __call__(self) -> RequestHandler:
        """One connection's protocol (the event loop calls this on accept)."""
        return ClientConnection(self, loop=self._loop)

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Bind and accept; `address` says where. OSError when the address cannot be had."""
        self._limit_descriptors()
        self._scan()
        context = self._tls.context if self._tls is not None else None
        place = await self._listener.open(context, self.timeouts.header)
        self.address = str(place) if place.path else f"{'https' if context else 'http'}://{place}"

    async def drain(self, deadline: float) -> None:
        """Accept nothing new, answer everything admitted, then close; bounded by `deadline`."""
        self.is_draining = True
        self._listener.close()
        self.pre_shutdown()  # idle connections go at once
        for connection in self._connections:
            cast("ClientConnection", connection).leave()
        remaining = max(0.0, deadline - self._loop.time())
        await self.shutdown(remaining)

    async def stop(self) -> None:
        """Close what is left."""
        self._listener.remove()
        await self.shutdown(0)
        for timer in (self._scan_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()
        self._scan_timer = self._watch_timer = None
        self._probe.close()

    def renew(self, rules: HeadRules) -> None:
        """Judge by `rules` from the next request on, also on connections that are open; what bounds the
        connections themselves stays."""
        self.rules = rules
        date, self.heads = self.heads.date, HeadWriter(rules.via)
        self.heads.date = date
        for connection in self._connections:
            cast("ClientConnection", connection).renew()

    def refresh_tls(self) -> None:
        """Use the TLS files as they are now, for new connections."""
        if self._tls is not None:
            self._tls.refresh()

    # ------------------------------------------------------------- for its connections
    @property
    def is_crowded(self) -> bool:
        """True when one more connection would be one too many."""
        return self._room() <= 0

    def _room(self) -> int:
        """How many more connections there may be."""
        return self._most_connections - len(self._connections)

    def hop_of(self, transport: asyncio.BaseTransport, before: Hop | None = None) -> Hop:
        """What the rules make of a connection; `before` is what other rules made of it."""
        return hop_of(transport, self.rules, self._tls, before)

    def refuse(self, call: Call, error: ProxyError) -> None:
        """Account for a request that was never served."""
        self.pipeline.refuse(call, error)
        self._errors.report(error.reason, "a request from %s was refused: %s", call.peer, str(error))

    def peer_state(self, transport: asyncio.BaseTransport) -> PeerState:
        """What has become of the client at the other end of `transport`."""
        sock = transport.get_extra_info("socket")
        try:
            return self._probe.state(sock)
        except OSError:
            return "gone"

    def glance(self, transport: asyncio.BaseTransport) -> Glance:
        """What has reached us of the client's leaving, although nobody reads from it."""
        return self._probe.glance(transport.get_extra_info("socket"))

    def watch(self, connection: ClientConnection) -> None:
        """Look after `connection`, which nobody reads from or which may have left."""
        self._watched.add(connection)
        if self._watch_timer is None:
            self._watch_timer = self._loop.call_later(_WATCH_S, self._look)

    def unwatch(self, connection: ClientConnection) -> None:
        """The connection is gone."""
        self._watched.discard(connection)

    # ------------------------------------------------------------- timers
    def _look(self) -> None:
        self._looks += 1
        is_deep = self._looks % _DEEP_EVERY == 0
        for connection in tuple(self._watched):
            if not connection.look(is_deep=is_deep):
                self._watched.discard(connection)
        self._watch_timer = self._loop.call_later(_WATCH_S, self._look) if self._watched else None

    def _scan(self) -> None:
        self.heads.date = formatdate(usegmt=True).encode()
        self._inspect(tuple(self._connections), self.attention.scan(self._loop.time()))
        self.refresh_tls()
        self._scan_timer = self._loop.call_later(self._scan_s, self._scan)

    def _inspect(self, connections: tuple[RequestHandler, ...], now: float) -> None:
        """Judge them, some in each turn of the loop: ten thousand at once would hold the others up."""
        for connection in connections[:_INSPECTED_AT_ONCE]:
            cast("ClientConnection", connection).inspect(now)
        if len(connections) > _INSPECTED_AT_ONCE:
            self._loop.call_soon(self._inspect, connections[_INSPECTED_AT_ONCE:], now)

    def _limit_descriptors(self) -> None:
        """Take as many file descriptors as the process may have, and no more connections than these carry."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        most = hard - _DESCRIPTORS_FOR_OTHERS
        if hard != resource.RLIM_INFINITY and most < self._most_connections:
            log.warning(
                "limits.connections is %d, but the process may open only %d files",
                self._most_connections,
                hard,
            )
            self._most_connections = max(1, most)


def new_ids() -> Iterator[tuple[bytes, bytes]]:
    """Trace ids (32 hexadecimal digits) and span ids (16), from the system's randomness, many at a time."""
    while True:
        digits = urandom(24 * _IDS_AT_ONCE).hex().encode()
        for at in range(0, len(digits), 48):
            yield digits[at : at + 32], digits[at + 32 : at + 48]


async def _unused_handler(_request: object) -> StreamResponse:
    raise AssertionError("ClientConnection answers without aiohttp's handler")  # pragma: no cover
