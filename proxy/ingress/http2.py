"""The HTTP/2 listener: with prior knowledge (h2c) or, where there is a certificate, by TLS and ALPN.

A component of the lifecycle (start, drain, stop), owner of its connections and of one timer, which looks at
the TLS files. It waits for clients; `drain` ends when the last connection has closed behind its last answer,
`stop` aborts what is left."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, cast

from proxy.exchange import Call
from proxy.http2.blocks import BlockWriter
from proxy.http2.intake import ReadBuffer
from proxy.http2.limits import Limits
from proxy.ingress.binding import Listener
from proxy.ingress.http2_link import ClientLink
from proxy.ingress.server import new_ids
from proxy.ingress.tls import TlsFront, hop_of

if TYPE_CHECKING:
    from proxy.config.addresses import Address
    from proxy.exchange import Ledger
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.http2_call import Service
    from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy, ServerTlsPolicy
    from proxy.ingress.rules import HeadRules
    from proxy.timing import Clock, Timer

__all__ = ("Http2Server", "session_limits")

_STREAMS: Final = 256
_FRAME: Final = 64 << 10
_STREAM_WINDOW: Final = 256 << 10
_WIDEST_WINDOW: Final = 1 << 20
_SPARE_WINDOW: Final = 2 << 20
_CONNECTION_WINDOW: Final = 16 << 20
_REFRESH_S: Final = 5.0


def session_limits(limits: LimitPolicy) -> Limits:
    """What one connection may hold, from what the operator allows."""
    return Limits(
        streams=min(_STREAMS, limits.inflight),
        frame_size=_FRAME,
        header_list=limits.header_bytes,
        stream_window=_STREAM_WINDOW,
        widest_window=_WIDEST_WINDOW,
        spare_window=_SPARE_WINDOW,
        connection_window=_CONNECTION_WINDOW,
    )


class Http2Server:
    """Accepts client connections at `place` and serves them by `rules`.

    `ledger` is shared with the other listeners, so that its limit holds for all. `tls` makes it a TLS
    listener that offers ``h2`` only."""

    def __init__(
        self,
        pipeline: Service,
        place: Address,
        rules: HeadRules,
        timeouts: ServerTimeoutPolicy,
        clock: Clock,
        *,
        ledger: Ledger,
        tls: ServerTlsPolicy | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.rules = rules
        self.timeouts = timeouts
        self.clock = clock
        self.ledger = ledger
        self.session_limits = session_limits(rules.limits)
        self.writer = BlockWriter()
        self.buffer = ReadBuffer()
        self.new_ids = new_ids().__next__
        self.newest = Call(b"", b"", ())
        self.address = ""
        self._tls = TlsFront(tls, alpn="h2", room=self._room) if tls is not None else None
        self._links: set[ClientLink] = set()
        self._empty = asyncio.Event()
        self._listener = Listener(place, self._accept)
        self._timer: Timer | None = None
        self._date = b""
        self._date_at = -1.0

    # ------------------------------------------------------------- for its connections
    def hop_of(self, transport: asyncio.BaseTransport, before: Hop | None = None) -> Hop:
        """What the rules make of a connection; `before` is what other rules made of it."""
        return hop_of(transport, self.rules, self._tls, before)

    def joined(self, link: ClientLink) -> None:
        """A client has connected."""
        self._links.add(link)
        self._empty.clear()

    def left(self, link: ClientLink) -> None:
        """A client's connection is gone."""
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    @property
    def is_crowded(self) -> bool:
        """True when there are more connections than are allowed."""
        return self._room() < 0

    def _room(self) -> int:
        """How many more connections there may be."""
        return self.rules.limits.connections - len(self._links)

    @property
    def date(self) -> bytes:
        """An IMF-fixdate, made anew once a second."""
        now = self.clock.now()
        if now - self._date_at >= 1.0:
            self._date, self._date_at = formatdate(usegmt=True).encode(), now
        return self._date

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Bind and accept; `address` says where. OSError when the address cannot be had."""
        self._empty.set()
        self._refresh()
        context = self._tls.context if self._tls is not None else None
        self.address = str(await self._listener.open(context, self.timeouts.header))

    async def drain(self, deadline: float) -> None:
        """Accept nothing new, answer everything admitted, then close; cancelled at `deadline`."""
        self._listener.close()
        for link in tuple(self._links):
            link.drain()
        await self._empty.wait()

    async def stop(self) -> None:
        """Close what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self._listener.remove()
        for link in tuple(self._links):
            link.abort()
        await self._empty.wait()

    def renew(self, rules: HeadRules) -> None:
        """Judge by `rules` from the next request on, also on connections that are open; what bounds the
        connections themselves stays."""
        self.rules = rules
        for link in self._links:
            link.renew()

    def _accept(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", ClientLink(self))  # it is one, though not by name

    def _refresh(self) -> None:
        if self._tls is not None:
            self._tls.refresh()
            self._timer = self.clock.call_at(self.clock.now() + _REFRESH_S, self._refresh)
