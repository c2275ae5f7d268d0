"""The book-keeping of one connection pool: who holds what, who waits, what to dial. Pure.

A connection is in exactly one place: `idle` (a stack: the hottest is taken first, so that the cold end can
age out), or `leased`. Dials under way are only counted. Taking and leasing are one step, and so are giving
back and handing over: a connection given back goes to the oldest ticket that may have it without ever being
idle, so that a newcomer cannot overtake whoever waits.

Bounds: `idle + leased + dialing <= max`, `dialing <= max_dials`, `len(waiting) <= queue`. A ticket waits for
whichever comes first, a connection given back or one freshly dialed; a dial that nobody needs any more
becomes idle. A ticket that `needs_fresh` (a call being repeated because a reused connection was dead) takes
only a new connection; when the pool is full, the coldest idle connection makes room for it.

The shell executes what the methods answer: it opens `dials_wanted` connections, closes what `make_room`
names, and wakes the tickets that are returned to it together with their connection.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ("PoolCore", "Ticket")

C = TypeVar("C")
W = TypeVar("W")


class Ticket(Generic[W]):
    """One call's place in the queue; `claim` is how the shell wakes it."""

    __slots__ = ("claim", "give_up_at", "needs_fresh")

    def __init__(self, claim: W, give_up_at: float, *, needs_fresh: bool = False) -> None:
        self.claim = claim
        self.give_up_at = give_up_at
        self.needs_fresh = needs_fresh


class PoolCore(Generic[C, W]):
    """See the module's text; `C` is a connection, `W` what a ticket's `claim` is."""

    __slots__ = ("dialing", "idle", "leased", "max", "max_dials", "queue", "waiting")

    def __init__(self, max_connections: int, queue: int, max_dials: int = 8) -> None:
        self.max = max_connections
        self.queue = queue
        self.max_dials = max_dials
        self.idle: list[C] = []
        self.leased: set[C] = set()
        self.dialing = 0
        self.waiting: deque[Ticket[W]] = deque()

    @property
    def total(self) -> int:
        """Connections that exist or are about to."""
        return len(self.idle) + len(self.leased) + self.dialing

    # ------------------------------------------------------------- connections
    def take(self) -> C | None:
        """Lease the connection that was used last, if one is idle."""
        if not self.idle:
            return None
        connection = self.idle.pop()
        self.leased.add(connection)
        return connection

    def give_back(self, connection: C, *, is_fresh: bool = False) -> Ticket[W] | None:
        """End a lease: the returned ticket holds the connection now; None when it became idle."""
        for ticket in self.waiting:
            if is_fresh or not ticket.needs_fresh:
                self.waiting.remove(ticket)
                return ticket
        self.leased.discard(connection)
        self.idle.append(connection)
        return None

    def forget(self, connection: C) -> None:
        """The connection is closed, wherever it was."""
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

    def withdraw(self, ticket: Ticket[W]) -> None:
        """Its call waits no more; harmless when it was served already."""
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def give_up(self, now: float) -> list[Ticket[W]]:
        """Remove and return the tickets whose time is over."""
        over = [ticket for ticket in self.waiting if ticket.give_up_at <= now]
        for ticket in over:
            self.waiting.remove(ticket)
        return over

    # ------------------------------------------------------------- dials
    def make_room(self) -> C | None:
        """Remove and return the coldest idle connection if a full pool keeps a fresh one from a ticket."""
        if self.dialing or self.total < self.max or not self.idle or not self.waiting:
            return None
        return self.idle.pop(0)

    def dials_wanted(self) -> int:
        """How many dials to start now, for the tickets that no dial under way will serve."""
        return max(
            0, min(len(self.waiting) - self.dialing, self.max_dials - self.dialing, self.max - self.total)
        )

    def dialed(self, connection: C) -> Ticket[W] | None:
        """A dial succeeded: the returned ticket holds the connection; None when it became idle."""
        self.dialing -= 1
        self.leased.add(connection)
        return self.give_back(connection, is_fresh=True)

    def dial_failed(self) -> Ticket[W] | None:
        """A dial failed: the returned ticket, the oldest, fails with it."""
        self.dialing -= 1
        return self.waiting.popleft() if self.waiting else None
