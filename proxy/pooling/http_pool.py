"""The HTTP/1.1 connections to one endpoint: the shell that executes what `pool_core` decides.

Owned by a cluster (or directly by the application). It waits for calls to exchange, owns the tasks that dial
and the one alarm that looks after leases, tickets and idle connections, and ends with `close`, after which
it holds no task, timer or socket. One event loop owns one pool; nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from proxy.errors import DeadlineExceeded, LeaseTimeout, ProxyError, QueueFull, Reset
from proxy.pooling.alarm import Alarm
from proxy.pooling.connection import Connection
from proxy.pooling.dial import dial
from proxy.pooling.pool_core import PoolCore, Ticket

if TYPE_CHECKING:
    from proxy.exchange import Call, Reply
    from proxy.pooling.endpoint import Endpoint
    from proxy.pooling.policy import HttpPoolPolicy, TimeoutPolicy
    from proxy.pooling.reply_reader import HeadTable
    from proxy.timing import Clock

__all__ = ("HttpPool",)

_REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))  # RFC 9110 §9.2.2

_Claim = asyncio.Future[Connection]


class HttpPool:
    """Implements `Upstream` for one endpoint; see the module's text."""

    def __init__(
        self, endpoint: Endpoint, policy: HttpPoolPolicy, timeouts: TimeoutPolicy, clock: Clock
    ) -> None:
        self.endpoint = endpoint
        self.clock = clock
        self.timeouts = timeouts
        self.authority = endpoint.authority
        self.heads: HeadTable = {}
        self.alarm = Alarm(clock, self._look_after)
        self._policy = policy
        self._now = clock.now
        self._core: PoolCore[Connection, _Claim] = PoolCore(policy.max, policy.queue)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    # ------------------------------------------------------------- Upstream
    async def exchange(self, call: Call) -> Reply:
        """Send `call` on a pooled connection and return the answer.

        Raises QueueFull, LeaseTimeout, ConnectFailed, ConnectTimeout, Reset, ReadTimeout, BadReply or
        DeadlineExceeded. A call that may be repeated is, once, when a reused connection turns out dead. A
        body of which nothing was taken yet is left to the caller.
        """
        now = self._now()
        connection = self._take_idle() or await self._lease(call, now)
        sent_at = self._now()
        waiter = connection.send(call, sent_at)
        try:
            reply = await waiter
            if reply.status == 408 and self._was_stale(connection) and _is_repeatable(call):
                reply = await self._repeat(call)
        except Reset:
            if not (self._was_stale(connection) and connection.is_unanswered and _is_repeatable(call)):
                raise
            reply = await self._repeat(call)
        except asyncio.CancelledError:
            connection.forsake(waiter)
            raise
        call.upstream_s = self._now() - sent_at
        return reply

    async def close(self) -> None:
        """Close every connection and fail whoever waits; returns when nothing is left."""
        self._is_closed = True
        self.alarm.cancel()
        for ticket in self._core.give_up(math.inf):
            _fail(ticket, Reset("the pool was closed"))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (*self._core.idle, *self._core.leased):
            connection.close()

    def snapshot(self) -> dict[str, object]:
        """The pool's state for the status page."""
        core = self._core
        return {
            "endpoint": self.endpoint.url,
            "idle": len(core.idle),
            "leased": len(core.leased),
            "dialing": core.dialing,
            "waiting": len(core.waiting),
            "max": core.max,
        }

    # ------------------------------------------------------------- Owner of connections
    def released(self, connection: Connection) -> None:
        """A clean connection comes back: to the oldest ticket, else to the stack of idle ones."""
        self._place(connection, self._core.give_back(connection))

    def _place(self, connection: Connection, ticket: Ticket[_Claim] | None) -> None:
        while ticket is not None:
            if not ticket.claim.done():
                ticket.claim.set_result(connection)
                return
            ticket = self._core.give_back(connection, is_fresh=not connection.uses)  # that caller has left
        connection.idle_since = now = self._now()
        self.alarm.arm(now + self._policy.idle)
        if self._core.waiting:
            self._start_dials()

    def lost(self, connection: Connection) -> None:
        """A connection is gone; whoever waits may get a new one in its place."""
        self._core.forget(connection)
        if self._core.waiting:
            self._start_dials()

    # ------------------------------------------------------------- leasing
    def _take_idle(self) -> Connection | None:
        while (connection := self._core.take()) is not None:
            if connection.is_silent():
                return connection
            connection.close()
        return None

    async def _lease(self, call: Call, now: float, *, needs_fresh: bool = False) -> Connection:
        """Wait for a connection, given back or new; fills in ``pool_s``."""
        give_up_at = min(now + self._policy.wait, call.deadline)
        while True:
            claim: _Claim = asyncio.get_running_loop().create_future()
            ticket = Ticket(claim, give_up_at, needs_fresh=needs_fresh)
            if not self._core.enqueue(ticket):
                raise QueueFull("too many calls wait for a connection", retry_after_s=1)
            self.alarm.arm(give_up_at)
            self._start_dials()
            try:
                connection = await claim
            except asyncio.CancelledError:
                self._withdraw(ticket)
                raise
            except LeaseTimeout as error:
                if give_up_at < call.deadline:
                    raise
                raise DeadlineExceeded("the deadline passed before a connection was free") from error
            finally:
                call.pool_s += self._now() - now
            if connection.is_open:
                return connection

    def _withdraw(self, ticket: Ticket[_Claim]) -> None:
        self._core.withdraw(ticket)
        claim = ticket.claim
        if claim.done() and not claim.cancelled() and claim.exception() is None:
            connection = claim.result()  # handed over, but its caller was cancelled before it ran
            if connection.is_open:
                self.released(connection)

    async def _repeat(self, call: Call) -> Reply:
        connection = await self._lease(call, self._now(), needs_fresh=True)
        waiter = connection.send(call, self._now())
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.forsake(waiter)
            raise

    @staticmethod
    def _was_stale(connection: Connection) -> bool:
        return connection.uses > 1 and not connection.is_open

    # ------------------------------------------------------------- dialing
    def _start_dials(self) -> None:
        if self._is_closed:
            return
        coldest = self._core.make_room()
        if coldest is not None:
            coldest.close()
        for _ in range(self._core.dials_wanted()):
            self._core.dialing += 1
            task = asyncio.get_running_loop().create_task(self._dial())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self) -> None:
        try:
            connection = await dial(self.endpoint, lambda: Connection(self), self._policy.connect)
        except ProxyError as error:
            _fail(self._core.dial_failed(), error)
        except BaseException:
            self._core.dialing -= 1
            raise
        else:
            self._place(connection, self._core.dialed(connection))
        self._start_dials()

    # ------------------------------------------------------------- the alarm
    def _look_after(self, now: float) -> float:
        """Expire what is due; the instant at which something will be due next."""
        for ticket in self._core.give_up(now):
            _fail(ticket, LeaseTimeout("no connection became free in time", retry_after_s=1))
        for connection in tuple(self._core.leased):
            if connection.overdue_at() <= now:
                connection.expire(now)
        idle_s = self._policy.idle
        while self._core.idle and self._core.idle[0].idle_since + idle_s <= now:
            self._core.idle[0].close()
        return min(
            min((ticket.give_up_at for ticket in self._core.waiting), default=math.inf),
            min((connection.overdue_at() for connection in self._core.leased), default=math.inf),
            self._core.idle[0].idle_since + idle_s if self._core.idle else math.inf,
        )


def _is_repeatable(call: Call) -> bool:
    return (call.idempotent or call.method in _REPEATABLE) and isinstance(call.body, bytes)


def _fail(ticket: Ticket[_Claim] | None, error: ProxyError) -> None:
    if ticket is not None and not ticket.claim.done():
        ticket.claim.set_exception(error)
