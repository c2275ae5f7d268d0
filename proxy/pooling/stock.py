"""The connections of one pool and everything that happens to them: dialed, leased, given back, aged out.

The shell around `pool_core` and `upkeep`: it executes what they decide. Owned by one `HttpPool`; it owns the
supply, which dials, and the one alarm that looks after leases, tickets and idle connections. It awaits
nothing itself, and ends with `close`, after which it holds no task, timer or socket. One event loop owns it;
nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from proxy.errors import ConnectFailed, LeaseTimeout, NoHealthyEndpoint, ProxyError, QueueFull, UpstreamError
from proxy.pooling.alarm import Alarm
from proxy.pooling.connection import Connection
from proxy.pooling.idle_time import LOOK_S, REST_S
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.pool_core import PoolCore, Ticket
from proxy.pooling.supply import Supply
from proxy.pooling.upkeep import TICK_S, Upkeep

if TYPE_CHECKING:
    from proxy.pooling.context import PoolContext

__all__ = ("Claim", "Stock")

Claim = asyncio.Future[Connection]
"""How a ticket's call is told of its connection, or why there is none."""

_CLOSED_BY_BACKEND: Final = frozenset(("fin", "unsolicited"))
_LOOK_SOON_S: Final = 0.1


class Stock:
    """Owner of connections; see the module's text."""

    def __init__(self, context: PoolContext) -> None:
        self.clock = clock = context.clock
        self.timeouts = context.policy.timeouts
        self.authority = context.endpoint.authority
        self.heads = HeadTable()
        self.alarm = Alarm(clock, self._look_after)
        self._now = clock.now
        self._url = context.endpoint.url
        self._policy = context.policy.pool.http
        self._events = context.events
        self._random = context.random
        self._on_trouble = context.on_trouble
        self.core: PoolCore[Connection, Claim] = PoolCore(self._policy.max, self._policy.queue)
        self.upkeep: Upkeep[Connection, Claim] = Upkeep(self._policy, self.core, clock.now())
        self._supply = Supply(
            context.dialer,
            lambda: Connection(self),
            self._policy,
            clock,
            events=context.events,
            on_dialed=self._dialed,
            on_failed=self._dial_failed,
        )
        self._is_closed = False
        self._is_serving = False
        context.dialer.on_gone = self._retire_addresses

    # ------------------------------------------------------------- leasing
    def take(self, now: float) -> Connection | None:
        """Lease an idle connection that is fit for use, without waiting."""
        while (connection := self.core.take()) is not None:
            if self._check(connection, now):
                return connection
        return None

    def take_safe(self, now: float) -> Connection | None:
        """The same for a call that must not meet a dying connection."""
        core = self.core
        while (candidate := core.peek()) is not None:
            if not self.upkeep.is_safe(candidate, now):
                self._sight(candidate, now)
                return None
            core.take()
            if self._check(candidate, now):
                return candidate
        return None

    def queue(self, ticket: Ticket[Claim], now: float) -> None:
        """Let `ticket` wait for a connection. Raises `QueueFull`, `ConnectFailed` or `NoHealthyEndpoint`."""
        if self._is_closed:
            raise NoHealthyEndpoint("the upstream was closed")
        if self.core.is_hopeless(now):
            raise ConnectFailed(f"{self._url}: the last dials failed")
        if not self.core.enqueue(ticket):
            raise QueueFull("too many calls wait for a connection", retry_after_s=1)
        self.alarm.arm(ticket.give_up_at)
        self.serve_waiting()

    def withdraw(self, ticket: Ticket[Claim]) -> None:
        """The call of `ticket` was cancelled: free what it may have been given meanwhile."""
        claim = ticket.claim
        if self.core.withdraw(ticket) or claim.cancelled() or claim.exception() is not None:
            return
        if claim.result().is_open:
            connection = claim.result()
            self._place(connection, is_safe=self.upkeep.is_safe(connection, self._now()))

    def serve_waiting(self) -> None:
        """Give tickets what is idle, and dial for the rest."""
        if self._is_serving:  # closing a connection below leads back here
            return
        self._is_serving = True
        now, core = self._now(), self.core
        while core.waiting and (connection := self.take(now)) is not None:
            is_safe = self.upkeep.is_safe(connection, now)
            if not self._give(connection, core.assign(connection, is_safe=is_safe), is_safe=is_safe):
                break
        self._is_serving = False
        self._dial_for_waiting(now)

    def keep_warm(self) -> None:
        """The endpoint is healthy: dial without back-off, and keep spare connections."""
        self.core.reconsider()
        self.upkeep.keep_warm()
        self.serve_waiting()
        self.alarm.arm(self.upkeep.next_at(self._now()))

    async def close(self) -> None:
        """Close every connection and fail whoever waits; returns when nothing is left."""
        self._is_closed = True
        self.alarm.cancel()
        for ticket in self.core.give_up(math.inf):
            _fail(ticket, NoHealthyEndpoint("the upstream was closed"))
        await self._supply.close()
        for connection in (*self.core.idle, *self.core.leased):
            connection.close("shutdown")

    # ------------------------------------------------------------- Owner of connections
    def announced(self, timeout_s: float) -> None:
        """The backend says how long it keeps idle connections."""
        self.upkeep.announced(timeout_s)

    def streaming(self, connection: Connection) -> None:
        """A lease will last."""
        self.core.streams.add(connection)

    def held_up(self, connection: Connection) -> None:
        """A stream is not read; that matters when somebody waits."""
        if self.core.waiting:
            self.alarm.arm(self._now() + self._policy.stall)

    def released(self, connection: Connection) -> None:
        """A clean connection comes back."""
        now = self._now()
        self.upkeep.rests(connection, now)
        spent = self.upkeep.is_spent(connection, now)
        if spent is None:
            self._place(connection, is_safe=bool(self.core.waiting) and self.upkeep.is_safe(connection, now))
        else:
            connection.close(spent)

    def lost(self, connection: Connection) -> None:
        """A connection is gone; whoever waits may get a new one in its place."""
        now = self._now()
        self.core.forget(connection)
        if connection.ended in _CLOSED_BY_BACKEND and self.upkeep.ended(connection, now):
            self._on_trouble()
        self._events.closed(connection.ended, connection.uses)
        if not self._is_closed:
            self.alarm.arm(now + (LOOK_S if self.core.must_rest else _LOOK_SOON_S))
            if self.core.waiting:
                self.serve_waiting()

    # ------------------------------------------------------------- placing
    def _place(self, connection: Connection, *, is_safe: bool) -> None:
        """End a lease: the oldest ticket gets the connection, or it becomes idle."""
        if self._give(connection, self.core.give_back(connection, is_safe=is_safe), is_safe=is_safe):
            return
        due = connection.idle_since + (LOOK_S if self.core.must_rest else TICK_S)
        if due < self.alarm.armed_for:
            self.alarm.arm(min(connection.fit_until, due))
        if self.core.waiting:
            self.serve_waiting()

    def _give(self, connection: Connection, ticket: Ticket[Claim] | None, *, is_safe: bool) -> bool:
        """Wake `ticket`, or the next one if its call has left meanwhile; False when nobody wants it."""
        while ticket is not None:
            if not ticket.claim.done():
                ticket.claim.set_result(connection)
                return True
            ticket = self.core.assign(connection, is_safe=is_safe)
        return False

    def _sight(self, connection: Connection, now: float) -> None:
        """An idle one is too old to be safe: soon a call may take one as old."""
        if not self.core.must_rest and connection.is_silent():
            self.upkeep.sighted(connection, now)
            self.alarm.arm(now + REST_S)

    def _check(self, connection: Connection, now: float) -> bool:
        """Whether a connection just leased may be used; it is closed if not."""
        if now >= connection.fit_until or now >= connection.retire_at:
            connection.close(self.upkeep.is_over(connection, now) or "age")
            return False
        if not connection.is_silent():
            self._events.stale()
            connection.close("fin")
            return False
        if self.core.must_rest:
            self.upkeep.survived(connection, now)
        return True

    def _retire_addresses(self, gone: frozenset[str]) -> None:
        for connection in self.core.leased:
            if connection.address in gone:
                connection.retire_at = -math.inf
        for connection in [one for one in self.core.idle if one.address in gone]:
            connection.close("moved")

    # ------------------------------------------------------------- dialing
    def _dial_for_waiting(self, now: float) -> None:
        core = self.core
        if self._is_closed or not core.waiting:
            return
        in_the_way = None if self.upkeep.is_proving else core.make_room()
        if in_the_way is not None:
            in_the_way.close("room")
        self._make_way(now)
        self._start_dials(core.dials_wanted(now))
        if core.dial_at > now:
            self.alarm.arm(core.dial_at)
        if core.must_rest:
            self.alarm.arm(self.upkeep.next_at(now))

    def _make_way(self, now: float) -> None:
        """Break off what is not read and keeps tickets waiting."""
        self._is_serving = True
        for connection in self.core.in_the_way(now - self._policy.stall):
            connection.make_way()
        self._is_serving = False
        self.alarm.arm(self.core.held_up_since + self._policy.stall)

    def _start_dials(self, count: int, *, is_spare: bool = False) -> None:
        self.core.dialing += count
        self._supply.start(count, is_spare=is_spare)

    def _dialed(self, connection: Connection, wants_warming: bool) -> bool:  # noqa: FBT001 - a callback
        self.core.dialed(connection)
        self.upkeep.dialed(connection, self._now(), self._random())
        if wants_warming and not self.core.waiting:
            return True
        self._place(connection, is_safe=True)
        self._dial_for_waiting(self._now())  # more wait than may be dialed for at once
        return False

    def _dial_failed(self, error: UpstreamError | None) -> None:
        if error is None:
            self.core.dialing -= 1
            return
        now = self._now()
        for ticket in self.core.dial_failed(now, self._random()):
            _fail(ticket, error)
        self._on_trouble()
        self._dial_for_waiting(now)

    # ------------------------------------------------------------- the alarm
    def _look_after(self, now: float) -> float:
        """Do what is due; the instant at which something will be due next."""
        core = self.core
        for ticket in core.give_up(now):
            _fail(ticket, LeaseTimeout("no connection became free in time", retry_after_s=1))
        for connection in tuple(core.leased):
            if connection.overdue_at() <= now:
                connection.expire(now)
        chores = self.upkeep.chores(now, self._random())
        for connection, why in chores.close:
            connection.close(why)
        self._start_dials(chores.dials, is_spare=True)
        self.serve_waiting()
        instants = [self.upkeep.next_at(now), core.held_up_since + self._policy.stall]
        instants += [ticket.give_up_at for ticket in core.waiting]
        instants += [connection.overdue_at() for connection in core.leased]
        return min(instants)


def _fail(ticket: Ticket[Claim], error: ProxyError) -> None:
    if not ticket.claim.done():
        ticket.claim.set_exception(error)
