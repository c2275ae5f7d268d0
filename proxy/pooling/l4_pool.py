"""The byte streams to one endpoint of which nothing is known: one connection for each client, never shared.

Owned by a cluster. It waits for dials only; what a client sends meanwhile waits in the call's body. The call
is a `CONNECT` whose body is what the client sends; the answer's body is what the backend sends, and a
`Tunnel` carries both. It owns the tunnels, and one alarm that ends those in which nothing has passed for too
long. It ends with `close`.

A connection that ends in error on one side ends in error on the other: by RST, since a FIN would say that
everything was sent.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from typing import TYPE_CHECKING, Final, cast

from proxy.errors import ProxyError, QueueFull, Reset
from proxy.exchange import Reply, Stream
from proxy.pooling.alarm import Alarm
from proxy.pooling.tunnel import Tunnel

if TYPE_CHECKING:
    from proxy.exchange import Call
    from proxy.pooling.context import PoolContext

__all__ = ("L4Pool",)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for zero seconds


class L4Pool:
    """Implements `Upstream` for one endpoint; see the module's text."""

    def __init__(self, context: PoolContext) -> None:
        self._policy = context.policy.pool.l4
        self._dialer = context.dialer
        self._clock = context.clock
        self._events = context.events
        self._on_trouble = context.on_trouble
        self._alarm = Alarm(self._clock, self._look_after)
        self._tunnels: set[Tunnel] = set()
        self._dialing = 0

    async def exchange(self, call: Call) -> Reply:
        """Connect and carry bytes both ways.

        Raises QueueFull, ConnectFailed or ConnectTimeout; then nothing of the body was taken. When the client
        has left meanwhile, what its body broke off with.
        """
        if self.load >= self._policy.max:
            raise QueueFull("too many connections to the endpoint")
        self._dialing += 1
        began = self._clock.now()
        try:
            landing, _ = await self._dialer.dial(_Landing, self._policy.connect)
        except ProxyError as error:
            self._events.connected(error.reason, self._clock.now() - began)
            self._on_trouble()
            raise
        finally:
            self._dialing -= 1
            self._events.waited(self._clock.now() - began)
        self._events.connected("ok", self._clock.now() - began)
        return Reply(200, (), self._carry(call, landing))

    @property
    def load(self) -> int:
        """Connections, open and on their way."""
        return len(self._tunnels) + self._dialing

    @property
    def waiting(self) -> int:
        """Nobody ever waits for another's connection."""
        return 0

    @property
    def lease_limit(self) -> int:
        """Connections that may be open at once."""
        return self._policy.max

    @property
    def idle_limit_s(self) -> float:
        """How long both sides of a connection may be silent."""
        return self._policy.idle

    @property
    def connections(self) -> dict[str, int]:
        """Connections by state."""
        return {"active": len(self._tunnels), "idle": 0, "connecting": self._dialing}

    def keep_warm(self) -> None:
        """Nothing to do: a connection belongs to its client from its first byte."""

    async def close(self) -> None:
        """Break off what is open."""
        self._alarm.cancel()
        for tunnel in tuple(self._tunnels):
            tunnel.break_off(Reset("the pool was closed"))

    def snapshot(self) -> dict[str, object]:
        """The pool's state for the status page."""
        return {"open": len(self._tunnels), "dialing": self._dialing, "max": self._policy.max}

    # ------------------------------------------------------------- internals
    def _carry(self, call: Call, landing: _Landing) -> Stream:
        body = call.body
        if not isinstance(body, Stream):
            raise TypeError("a byte stream needs a body that streams")
        transport = landing.transport
        if body.error is not None:
            transport.abort()
            raise body.error
        tunnel = Tunnel(transport, body, self._clock, lambda: self._ended(tunnel, body, transport))
        self._tunnels.add(tunnel)
        landing.hand_over(tunnel)
        self._alarm.arm(tunnel.overdue_at(self._policy.idle))
        return tunnel.stream

    def _ended(self, tunnel: Tunnel, body: Stream, transport: asyncio.Transport) -> None:
        self._tunnels.discard(tunnel)
        body.abandon()  # nobody can take what the client still says
        has_failed = tunnel.stream.error is not None
        self._events.closed("error" if has_failed else "last", 1)
        if has_failed:
            _reset_on_close(transport)

    def _look_after(self, now: float) -> float:
        """End what is silent; the instant at which something may be due next."""
        due = math.inf
        for tunnel in tuple(self._tunnels):
            overdue_at = tunnel.overdue_at(self._policy.idle)
            if overdue_at <= now:
                tunnel.break_off(Reset("nothing has passed for too long"))
            else:
                due = min(due, overdue_at)
        return due


class _Landing(asyncio.Protocol):
    """Holds what a new connection brings until its tunnel takes over."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._early: list[bytes] = []
        self._has_eof = False
        self._lost: tuple[Exception | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def eof_received(self) -> bool:
        self._has_eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = (exc,)

    def hand_over(self, tunnel: Tunnel) -> None:
        """Tell `tunnel`, which is the transport's protocol now, what has happened before."""
        for data in self._early:
            tunnel.data_received(data)
        if self._has_eof:
            tunnel.eof_received()
        if self._lost is not None:
            tunnel.connection_lost(self._lost[0])


def _reset_on_close(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
