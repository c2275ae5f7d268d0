"""The book-keeping of one connection pool: who holds what, who waits, what to dial (pure).

A connection is in exactly one place: `idle` (a stack: the hottest is taken first, so that the cold end can
age out), or `leased`. Dials under way are only counted. Taking and leasing are one step, and so are giving
back and handing over: a connection given back goes to the oldest ticket that may have it without ever being
idle, so that a newcomer cannot overtake whoever waits.

Bounds: ``idle + leased + dialing <= max``; ``dialing <= max_dials``; ``len(waiting) <= queue``; and no lease
is granted above `lease_limit`, the adaptive concurrency limit, which is a matter of its own. A ticket waits
for whichever comes first, a connection given back or one freshly dialed; a dial that nobody needs any more
becomes idle. Three kinds of ticket are particular:

* `needs_fresh` (a call that was sent on a dead connection already): it takes only one that was never used.
* `is_once` (a call that must not be executed twice): it takes only a connection of which the shell says that
  it `is_safe`, when the connection becomes free: new, or used by a backend that is known by then.
* `is_stream` (a call that will hold its connection for minutes): streams may hold nine tenths of the pool, so
  that short calls always find a way through.

When the pool is full, an idle connection makes room for a new one that the first two need. While `must_rest`
is set that is one that has rested and has nothing more to prove, or else the hottest: if always the coldest
went, none would ever come to rest in a small pool, and the backend would never be trusted.

While `must_rest` is set (the backend is not trusted to stay silent after an answer), a used connection is not
handed over but becomes idle, and is taken, coldest first, only once it has rested: once `LOOKS` looks have
found it silent (see `idle_time`).

A failed dial fails the oldest ticket. From the third failure in a row, with no connection left that could
come back, all tickets fail at once, and until the back-off is over no dial is started.

The shell executes what the methods answer: it opens `dials_wanted` connections, closes what `make_room`
names, and wakes the tickets that `give_back` and `assign` return.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Generic, Protocol, TypeVar

from proxy.pooling.backoff import Backoff
from proxy.pooling.idle_time import LOOKS

__all__ = ("PoolCore", "Pooled", "Ticket")

_MAX_DIALS: Final = 8
_HOPELESS_DIALS: Final = 3
_DIAL_BASE_S: Final = 0.05
_DIAL_MOST_S: Final = 5.0


class Pooled(Protocol):
    """What the core knows of a connection."""

    looks: int
    uses: int

    @property
    def held_up_since(self) -> float:
        """Since when its client has neither taken nor sent what it should; inf when it keeps up."""


C = TypeVar("C", bound=Pooled)
W = TypeVar("W")


class Ticket(Generic[W]):
    """One call's place in the queue; `claim` is how the shell wakes it."""

    __slots__ = ("claim", "give_up_at", "is_once", "is_stream", "needs_fresh")

    def __init__(
        self,
        claim: W,
        give_up_at: float,
        *,
        needs_fresh: bool = False,
        is_once: bool = False,
        is_stream: bool = False,
    ) -> None:
        self.claim = claim
        self.give_up_at = give_up_at
        self.needs_fresh = needs_fresh
        self.is_once = is_once
        self.is_stream = is_stream


class PoolCore(Generic[C, W]):
    """See the module's text; `C` is a connection, `W` what a ticket's `claim` is."""

    __slots__ = (
        "_backoff",
        "dial_at",
        "dialing",
        "idle",
        "lease_limit",
        "leased",
        "max",
        "must_rest",
        "queue",
        "streams",
        "waiting",
    )

    def __init__(self, max_connections: int, queue: int) -> None:
        self.max = max_connections
        self.queue = queue
        self.lease_limit = max_connections
        self.must_rest = False
        self.idle: list[C] = []
        self.leased: set[C] = set()
        self.streams: set[C] = set()
        self.dialing = 0
        self.dial_at = -math.inf
        self.waiting: deque[Ticket[W]] = deque()
        self._backoff = Backoff(_DIAL_BASE_S, _DIAL_MOST_S)

    @property
    def total(self) -> int:
        """Connections that exist or are about to."""
        return len(self.idle) + len(self.leased) + self.dialing

    @property
    def is_streaming_full(self) -> bool:
        """True when streams hold all of the pool that streams may hold."""
        return len(self.streams) >= max(1, self.max * 9 // 10)

    # ------------------------------------------------------------- connections
    def take(self) -> C | None:
        """Lease the idle connection that is next to be used, if one may be."""
        if not self.idle or len(self.leased) >= self.lease_limit:
            return None
        if not self.must_rest:
            connection = self.idle.pop()
        elif _has_rested(self.idle[0]):
            connection = self.idle.pop(0)
        else:
            return None
        self.leased.add(connection)
        return connection

    def peek(self) -> C | None:
        """The connection that `take` would lease."""
        if not self.idle or len(self.leased) >= self.lease_limit:
            return None
        if not self.must_rest:
            return self.idle[-1]
        return self.idle[0] if _has_rested(self.idle[0]) else None

    def give_back(self, connection: C, *, is_safe: bool = True) -> Ticket[W] | None:
        """End a lease: the returned ticket holds the connection now; None when it became idle."""
        if self.streams:
            self.streams.discard(connection)
        if self.waiting and len(self.leased) <= self.lease_limit and not (self.must_rest and connection.uses):
            return self.assign(connection, is_safe=is_safe)
        self.leased.discard(connection)
        self.idle.append(connection)
        return None

    def assign(self, connection: C, *, is_safe: bool = True) -> Ticket[W] | None:
        """Pass a leased connection to the oldest ticket that may have it; without one it becomes idle."""
        is_full = self.is_streaming_full
        for ticket in self.waiting:
            is_barred = (
                (ticket.needs_fresh and connection.uses)
                or (ticket.is_once and not is_safe)
                or (ticket.is_stream and is_full)
            )
            if not is_barred:
                self.waiting.remove(ticket)
                return ticket
        self.leased.discard(connection)
        self.idle.insert(0 if self.must_rest else len(self.idle), connection)
        return None

    def forget(self, connection: C) -> None:
        """The connection is closed, wherever it was."""
        self.streams.discard(connection)
        if connection in self.leased:
            self.leased.discard(connection)
        elif connection in self.idle:
            self.idle.remove(connection)

    # ------------------------------------------------------------- tickets
    def enqueue(self, ticket: Ticket[W]) -> bool:
        """Queue `ticket`; False when the queue is full."""
        if len(self.waiting) >= self.queue:
            return False
        self.waiting.append(ticket)
        return True

    def withdraw(self, ticket: Ticket[W]) -> bool:
        """Its call waits no more; False when it was served already."""
        if ticket not in self.waiting:
            return False
        self.waiting.remove(ticket)
        return True

    def give_up(self, now: float) -> list[Ticket[W]]:
        """Remove and return the tickets whose time is over."""
        over = [ticket for ticket in self.waiting if ticket.give_up_at <= now]
        for ticket in over:
            self.waiting.remove(ticket)
        return over

    # ------------------------------------------------------------- slow clients
    @property
    def held_up_since(self) -> float:
        """Since when the slowest client has held up a ticket that nothing else can serve; inf: none does."""
        is_full = self.total >= self.max or len(self.leased) + self.dialing >= self.lease_limit
        if not is_full or len(self.waiting) <= self.dialing:
            return math.inf
        return min([connection.held_up_since for connection in self.leased], default=math.inf)

    def in_the_way(self, since: float) -> list[C]:
        """The exchanges to break off, slowest client first: held up since `since`, one for each ticket that
        waits for more than a dial under way."""
        if self.held_up_since > since:
            return []
        slow = [connection for connection in self.leased if connection.held_up_since <= since]
        slow.sort(key=lambda connection: connection.held_up_since)
        return slow[: len(self.waiting) - self.dialing]

    # ------------------------------------------------------------- dials
    def make_room(self) -> C | None:
        """Remove and return an idle connection if a full pool keeps a new one from a ticket that needs it."""
        if self.dialing or self.total < self.max or not self.idle or len(self.leased) >= self.lease_limit:
            return None
        if not any(ticket.needs_fresh or ticket.is_once for ticket in self.waiting):
            return None
        return self.idle.pop(0 if not self.must_rest or _has_rested(self.idle[0]) else -1)

    def dials_wanted(self, now: float) -> int:
        """How many dials to start now, for the tickets that no dial under way will serve."""
        room = min(
            _MAX_DIALS - self.dialing,
            self.max - self.total,
            self.lease_limit - len(self.leased) - self.dialing,
        )
        if room <= 0 or now < self.dial_at:
            return 0
        is_full = self.is_streaming_full
        unserved = sum(1 for ticket in self.waiting if not (is_full and ticket.is_stream)) - self.dialing
        return max(0, min(unserved, room))

    def spares_wanted(self, now: float, spare: int) -> int:
        """How many dials to start now so that `spare` connections are idle."""
        if now < self.dial_at:
            return 0
        wanted = min(spare, self.max - len(self.leased)) - len(self.idle) - self.dialing
        return max(0, min(wanted, _MAX_DIALS - self.dialing))

    def dialed(self, connection: C) -> None:
        """A dial succeeded: the connection is leased, to be given back at once or after warming it up."""
        self.dialing -= 1
        self.leased.add(connection)
        self.reconsider()

    def dial_failed(self, now: float, jitter: float) -> list[Ticket[W]]:
        """A dial failed, `jitter` in [0, 1): the tickets that fail with it."""
        self.dialing -= 1
        self.dial_at = now + self._backoff.failed(jitter)
        if self._backoff.failures < _HOPELESS_DIALS or self.leased:
            return [self.waiting.popleft()] if self.waiting else []
        failed = list(self.waiting)
        self.waiting.clear()
        return failed

    def is_hopeless(self, now: float) -> bool:
        """True when a call need not wait: dials have failed in a row, and the next is not due."""
        return self._backoff.failures >= _HOPELESS_DIALS and now < self.dial_at and not self.total

    def reconsider(self) -> None:
        """The endpoint was seen alive: dial again without waiting for the back-off."""
        self._backoff.succeeded()
        self.dial_at = -math.inf


def _has_rested(connection: Pooled) -> bool:
    return not connection.uses or connection.looks >= LOOKS
