"""The calls that wait for each other: tickets of one batch key, in the order in which they will travel.

Theory of operation
-------------------
A `Lane` is first come, first served within a class of urgency (0 most urgent, `USUAL` for nearly
everybody). Between classes the more urgent ticket goes first, but each `AGE_S` of waiting moves a ticket up
one class, so nobody is overtaken for ever. A lane that only ever saw one class, which is nearly every lane,
pays nothing for the others.

A ticket whose caller left stays as a husk that is skipped; what counts (items, bytes) is adjusted at once.
Two instants are kept for the lane as a whole, each as a minimum over its tickets: `window_ends_at`, when
somebody has waited as long as the policy or its own wish allows, and `hurry_at`, the last instant at which
somebody can leave and still meet its deadline, given how long a batch is expected to take. Minima are exact
when tickets come and bounds after they leave; `look_ahead` makes them exact again for those who can be in
the next batch, which costs no more than a batch.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from proxy.batching.fairness import AGE_S
from proxy.batching.returning import Returns

if TYPE_CHECKING:
    from collections.abc import Hashable

    from proxy.batching.profile import Profile

__all__ = ("USUAL", "Bounds", "Lane", "Load", "Ticket")

USUAL = 3
"""The urgency of calls that say nothing about it (RFC 9218's default)."""

_LEAST = 7


class Bounds(NamedTuple):
    """How far a lane may collect: body bytes for each batch, seconds for its oldest ticket."""

    nbytes: int
    wait_s: float


class Ticket:
    """One waiting call: how much it is, since when, how urgently, and until when anybody wants it.

    `leaves_at` ends its window, `presses_at` is when it may take an extra slot, `cost_s` is the backend's
    time it needs.
    """

    __slots__ = (
        "arrived_at",
        "cost_s",
        "deadline",
        "is_gone",
        "items",
        "lane",
        "leaves_at",
        "nbytes",
        "presses_at",
        "urgency",
    )

    def __init__(
        self, lane: Lane, items: int, nbytes: int, arrived_at: float, deadline: float = math.inf
    ) -> None:
        self.lane = lane
        self.items = items
        self.nbytes = nbytes
        self.arrived_at = arrived_at
        self.deadline = deadline
        self.leaves_at = arrived_at + lane.bounds.wait_s
        self.presses_at = math.inf
        self.cost_s = 0.0
        self.urgency = USUAL
        self.is_gone = False

    def wish(self, wait_s: float) -> None:
        """The caller itself says how long it is willing to wait."""
        self.leaves_at = self.presses_at = self.arrived_at + wait_s


class Load(NamedTuple):
    """What `Lane.take` found: members of the next batch, tickets that expired, and whether a bound cut it."""

    members: list[Ticket]
    expired: list[Ticket]
    is_full: bool


class Lane:
    """The tickets of one batch key. `profile` is what is known about the calls of its path."""

    __slots__ = (
        "_queues",
        "bounds",
        "credit",
        "hurry_at",
        "is_overdue",
        "items",
        "key",
        "listed_as",
        "nbytes",
        "profile",
        "returns",
        "tenant",
        "urgency",
        "wakes_at",
        "window_ends_at",
    )

    def __init__(self, key: Hashable, bounds: Bounds, profile: Profile, tenant: Hashable = None) -> None:
        self.key = key
        self.bounds = bounds
        self.profile = profile
        self.returns = Returns()
        self.tenant = tenant
        self._queues: dict[int, deque[Ticket]] = {USUAL: deque()}
        self.items = 0
        self.nbytes = 0
        self.urgency = _LEAST
        self.window_ends_at = math.inf
        self.hurry_at = math.inf
        self.wakes_at = math.inf
        self.is_overdue = False
        self.listed_as: int | None = None
        self.credit = 0.0

    @property
    def is_full(self) -> bool:
        """Whether a whole batch is waiting."""
        return self.items >= self.profile.cap.items or self.nbytes >= self.bounds.nbytes

    def due_at(self) -> float:
        """When the lane wants to send even if it is not full."""
        if self.hurry_at < self.window_ends_at:
            return self.hurry_at
        return self.window_ends_at

    def waiting_since(self) -> float:
        """When the oldest ticket arrived; infinite when none waits."""
        return min(
            [queue[0].arrived_at for queue in self._queues.values() if _skip_husks(queue)], default=math.inf
        )

    def tickets(self) -> list[Ticket]:
        """Everybody who waits, in no particular order between classes."""
        return [ticket for queue in self._queues.values() for ticket in queue if not ticket.is_gone]

    def add(self, ticket: Ticket) -> None:
        """Queue `ticket`."""
        queue = self._queues.get(ticket.urgency)
        if queue is None:
            queue = self._queues[ticket.urgency] = deque()
        queue.append(ticket)
        self.items += ticket.items
        self.nbytes += ticket.nbytes
        self.returns.came(ticket.items, ticket.arrived_at)
        if (  # whoever comes later is mostly no more urgent
            ticket.leaves_at < self.window_ends_at
            or ticket.deadline - self.profile.service_s < self.hurry_at
            or ticket.presses_at < self.hurry_at
            or ticket.urgency < self.urgency
        ):
            self._mind(ticket)

    def answered(self, items: int, now: float) -> None:
        """A batch of `items` has its answer, and its callers may be back in a moment."""
        model = self.profile.model
        base_s = model.base_s if model.is_settled else 0.0
        self.returns.answered(items, now, waiting=self.items, base_s=base_s)

    def is_incomplete(self, now: float) -> bool:
        """Whether somebody on the way back is worth waiting for."""
        return self.returns.is_awaited(now) and not self.is_full and self.due_at() > now

    def remove(self, ticket: Ticket) -> None:
        """Forget `ticket`, which stays in the queue as a husk."""
        ticket.is_gone = True
        self.items -= ticket.items
        self.nbytes -= ticket.nbytes
        if not self.items:
            self._clear()

    def take(self, now: float) -> Load:
        """Take the next batch: at least one ticket, if any is alive, and no more than the bounds allow."""
        most_items, most_bytes = self.profile.cap.items, self.bounds.nbytes
        members: list[Ticket] = []
        expired: list[Ticket] = []
        items = nbytes = 0
        is_cut = False
        is_plain = len(self._queues) == 1
        queue = self._foremost(now)
        while queue is not None:
            ticket = queue[0]
            if ticket.deadline <= now:
                ticket.is_gone = True
                expired.append(ticket)
            elif members and (items + ticket.items > most_items or nbytes + ticket.nbytes > most_bytes):
                is_cut = True
                break
            else:
                members.append(ticket)
                items += ticket.items
                nbytes += ticket.nbytes
            queue.popleft()
            if not (is_plain and queue) or queue[0].is_gone:
                queue = self._foremost(now)
        self.items -= items + sum(ticket.items for ticket in expired)
        self.nbytes -= nbytes + sum(ticket.nbytes for ticket in expired)
        if self.items:
            self.look_ahead()
        else:
            self._clear()
        return Load(members, expired, is_cut or items >= most_items)

    def look_ahead(self) -> None:
        """Find out anew how urgent and how late those are who can be in the next batch."""
        self.window_ends_at = self.hurry_at = math.inf
        self.urgency = _LEAST
        for queue in self._queues.values():
            for ticket in islice(queue, self.profile.cap.items):
                if not ticket.is_gone:
                    self._mind(ticket)

    def _mind(self, ticket: Ticket) -> None:
        hurry_at = ticket.deadline - self.profile.service_s
        self.window_ends_at = min(self.window_ends_at, ticket.leaves_at)
        self.hurry_at = min(self.hurry_at, hurry_at, ticket.presses_at)
        self.urgency = min(self.urgency, ticket.urgency)

    def _foremost(self, now: float) -> deque[Ticket] | None:
        """The queue whose head goes first; None when nobody waits."""
        best, best_rank = None, (0.0, 0.0)
        for urgency, queue in self._queues.items():
            if not _skip_husks(queue):
                continue
            if len(self._queues) == 1:
                return queue
            waiting_since = queue[0].arrived_at
            rank = (urgency - (now - waiting_since) // AGE_S, waiting_since)
            if best is None or rank < best_rank:
                best, best_rank = queue, rank
        return best

    def _clear(self) -> None:
        self._queues = {USUAL: self._queues[USUAL]}
        self._queues[USUAL].clear()
        self.items = self.nbytes = 0
        self.urgency = _LEAST
        self.window_ends_at = self.hurry_at = self.wakes_at = math.inf
        self.credit = 0.0


def _skip_husks(queue: deque[Ticket]) -> bool:
    """Drop the husks before the first living ticket; whether there is one."""
    while queue and queue[0].is_gone:
        queue.popleft()
    return bool(queue)
