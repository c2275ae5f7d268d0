"""The HTTP/1.1 pool of one endpoint: sends a call on a connection that is alive, and repeats it if it was
not.

Owned by a cluster; it owns its `Stock` of connections. It waits for a connection when none is free, and for
the answer; both end with the call's deadline. Cancelling an exchange frees what it holds, and closes the
connection at once if the request was sent, so that the backend stops working. It ends with `close`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.errors import DeadlineExceeded, LeaseTimeout, Reset
from proxy.pooling.concurrency import Gradient
from proxy.pooling.pool_core import Ticket
from proxy.pooling.retry import is_idempotent
from proxy.pooling.stock import Claim, Stock

if TYPE_CHECKING:
    from proxy.exchange import Call, Reply
    from proxy.pooling.connection import Connection
    from proxy.pooling.context import PoolContext

__all__ = ("HttpPool",)


class HttpPool:
    """Implements `Upstream` for one endpoint; see the module's text."""

    def __init__(self, context: PoolContext) -> None:
        policy = context.policy
        self._stock = Stock(context)
        self._core = self._stock.core
        self._now = context.clock.now
        self._events = context.events
        self._retry = policy.retry
        self._wait_s = policy.pool.http.wait
        self._limiter = Gradient(policy.concurrency) if policy.concurrency.mode == "adaptive" else None
        if self._limiter is not None:
            self._core.lease_limit = min(self._core.max, self._limiter.limit)
        self.keep_warm = self._stock.keep_warm
        self.close = self._stock.close

    async def exchange(self, call: Call) -> Reply:
        """Send `call` on a pooled connection and return the answer.

        Raises QueueFull, LeaseTimeout, ConnectFailed, ConnectTimeout, Reset, ReadTimeout, BadReply,
        DeadlineExceeded or, once closed, NoHealthyEndpoint. A call that may be repeated is, once, when a
        reused connection turns out dead. A body of which nothing was taken yet is left to the caller.
        """
        now = self._now()
        is_repeatable = is_idempotent(call, self._retry)
        connection = self._take(call, now, is_repeatable=is_repeatable)
        if connection is None:
            connection = await self._lease(call, now, is_once=not is_repeatable)
            now = self._now()
        if connection.uses:
            self._events.reused()
        waiter = connection.send(call, now)
        try:
            reply = await waiter
        except Reset:
            if not is_repeatable or call.was_repeated or not connection.was_stale:
                raise
            reply = await self._repeat(call)
        except asyncio.CancelledError:
            connection.forsake(waiter)
            raise
        # RFC 9110 §15.5.9: a 408 that closes a reused connection is about its idleness, not about this call.
        was_dismissed = reply.status == 408 and connection.uses > 1 and connection.ended == "last"
        if was_dismissed and is_repeatable and not call.was_repeated:
            reply = await self._repeat(call)
        call.upstream_s = span_s = self._now() - now
        self._events.answered(reply.status, span_s)
        if self._limiter is not None:
            self._adapt(self._limiter, span_s)
        return reply

    @property
    def load(self) -> int:
        """Calls in flight or waiting for a connection."""
        return len(self._core.leased) + len(self._core.waiting)

    @property
    def waiting(self) -> int:
        """Calls that wait for a connection."""
        return len(self._core.waiting)

    @property
    def lease_limit(self) -> int:
        """Calls that may be in flight at once."""
        return self._core.lease_limit

    @property
    def idle_limit_s(self) -> float:
        """How long an idle connection is kept, given what was learned about the backend."""
        return self._stock.upkeep.idle_limit_s

    @property
    def connections(self) -> dict[str, int]:
        """Connections by state."""
        core = self._core
        return {"active": len(core.leased), "idle": len(core.idle), "connecting": core.dialing}

    def snapshot(self) -> dict[str, object]:
        """The pool's state for the status page."""
        core = self._core
        return {
            "idle": len(core.idle),
            "leased": len(core.leased),
            "streams": len(core.streams),
            "dialing": core.dialing,
            "waiting": len(core.waiting),
            "max": core.max,
            "lease_limit": core.lease_limit,
            **self._stock.upkeep.snapshot(),
        }

    # ------------------------------------------------------------- internals
    def _take(self, call: Call, now: float, *, is_repeatable: bool) -> Connection | None:
        core = self._core
        if core.waiting or (core.streams and core.is_streaming_full and _wants_stream(call)):
            return None
        return self._stock.take(now) if is_repeatable else self._stock.take_safe(now)

    async def _lease(
        self, call: Call, since: float, *, needs_fresh: bool = False, is_once: bool = False
    ) -> Connection:
        """Wait for a connection, given back or new; fills in ``pool_s``."""
        give_up_at = min(since + self._wait_s, call.deadline)
        try:
            while True:
                connection = await self._wait(call, give_up_at, needs_fresh=needs_fresh, is_once=is_once)
                if connection.is_open:
                    return connection
        except LeaseTimeout as error:
            if give_up_at < call.deadline:
                raise
            raise DeadlineExceeded("the deadline passed before a connection was free") from error
        finally:
            span_s = self._now() - since
            call.pool_s += span_s
            self._events.waited(span_s)

    async def _wait(self, call: Call, give_up_at: float, *, needs_fresh: bool, is_once: bool) -> Connection:
        claim: Claim = asyncio.get_running_loop().create_future()
        ticket = Ticket(
            claim, give_up_at, needs_fresh=needs_fresh, is_once=is_once, is_stream=_wants_stream(call)
        )
        self._stock.queue(ticket, self._now())
        try:
            return await claim
        except asyncio.CancelledError:
            self._stock.withdraw(ticket)
            raise

    async def _repeat(self, call: Call) -> Reply:
        call.was_repeated = True
        self._events.stale()
        connection = await self._lease(call, self._now(), needs_fresh=True)
        waiter = connection.send(call, self._now())
        try:
            return await waiter
        except asyncio.CancelledError:
            connection.forsake(waiter)
            raise

    def _adapt(self, limiter: Gradient, span_s: float) -> None:
        core = self._core
        limiter.sample(span_s, len(core.leased) + 1)
        core.lease_limit = min(core.max, limiter.limit)
        if core.waiting:
            self._stock.serve_waiting()


def _wants_stream(call: Call) -> bool:
    return bool(call.upgrade) or b"text/event-stream" in (call.header(b"accept") or b"")
