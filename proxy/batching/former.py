"""When a batch leaves and who is in it: the queueing rules of one upstream, without clocks or sockets.

Theory of operation
-------------------
Tickets of equal batch key wait in a `Lane`, first come first served. A `Former` holds the lanes of one
upstream and answers one question, `next_batch(now)`: which lane may send now, and how much of it. The shell
asks after each arrival, completion and timer, until the answer is None.

*Eager* formers (mode ``adaptive``) are work-conserving. While fewer than `limit` batches are in flight,
whatever is there leaves at once (trigger ``idle``): a lone request never waits. While `limit` are in
flight, tickets collect, and when one returns everything that collected leaves together (``slot_free``). The
number of batches in flight is what forms the batches: too few starve a parallel backend, too many make
small batches that queue inside it.

*Patient* formers (mode ``window``) send a lane when it holds enough items or its oldest ticket has waited
long enough.

Both cut a batch at `bounds.items` and `bounds.nbytes` (``full``); a ticket larger than the bounds travels
alone. Lanes take turns.

*Late batches.* A slot that a stuck call holds would stop everyone, so a batch that is overdue (in flight
longer than the backend is known to need, and longer than `bounds.wait_s`) lends its slot: a lane whose
oldest ticket has waited `wait_s` may send in its place (``window``). Before anything is known about the
backend this makes `wait_s` a bound on waiting; afterwards a slow but punctual backend is not flooded with
small batches. At most `limit` + 1 slots are lent, so a dead backend is not buried either. A ticket whose
deadline would be missed by waiting longer may take a lent slot too (``deadline``).

*Time.* One heap holds the next instant at which each waiting lane wants attention; `next_wakeup` is its
head. Entries are withdrawn lazily: an entry is valid only while its lane still expects exactly that
instant. All operations are O(1) amortised but for the heap, which has one live entry for each lane that is
blocked.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("Batch", "Bounds", "Former", "Lane", "Ticket", "Trigger")

Trigger = Literal["idle", "slot_free", "full", "window", "deadline", "drain"]


class Bounds(NamedTuple):
    """How far a lane may collect: items and body bytes for each batch, seconds for its oldest ticket."""

    items: int
    nbytes: int
    wait_s: float


class Ticket:
    """One waiting call: how much it is, since when, and until when anybody wants it."""

    __slots__ = ("arrived_at", "deadline", "is_gone", "items", "lane", "nbytes")

    def __init__(
        self, lane: Lane, items: int, nbytes: int, arrived_at: float, deadline: float = math.inf
    ) -> None:
        self.lane = lane
        self.items = items
        self.nbytes = nbytes
        self.arrived_at = arrived_at
        self.deadline = deadline
        self.is_gone = False


class Lane:
    """The tickets of one batch key, in order of arrival.

    `service_s` is how long a batch of this lane is expected to take (0: not known yet). `hurry_at` is the
    latest instant at which the most urgent of the next batch's tickets can leave and still be in time.
    """

    __slots__ = (
        "bounds",
        "hurry_at",
        "is_overdue",
        "is_ready",
        "items",
        "key",
        "nbytes",
        "queue",
        "service_s",
        "wakes_at",
    )

    def __init__(self, key: Hashable, bounds: Bounds) -> None:
        self.key = key
        self.bounds = bounds
        self.service_s = 0.0
        self.queue: deque[Ticket] = deque()
        self.items = 0
        self.nbytes = 0
        self.hurry_at = math.inf
        self.wakes_at = math.inf
        self.is_ready = False
        self.is_overdue = False

    @property
    def is_full(self) -> bool:
        """Whether a whole batch is waiting."""
        return self.items >= self.bounds.items or self.nbytes >= self.bounds.nbytes

    def due_at(self) -> float:
        """When the lane wants to send even if it is not full; the lane must not be empty."""
        return min(self.oldest().arrived_at + self.bounds.wait_s, self.hurry_at)

    def oldest(self) -> Ticket:
        """The ticket that has waited longest; the lane must not be empty."""
        queue = self.queue
        while queue[0].is_gone:
            queue.popleft()
        return queue[0]

    def add(self, ticket: Ticket) -> None:
        """Queue `ticket`."""
        self.queue.append(ticket)
        self.items += ticket.items
        self.nbytes += ticket.nbytes
        self.hurry_at = min(self.hurry_at, ticket.deadline - self.service_s)

    def remove(self, ticket: Ticket) -> None:
        """Forget `ticket`, which stays in the queue as a husk."""
        ticket.is_gone = True
        self.items -= ticket.items
        self.nbytes -= ticket.nbytes
        if not self.items:
            self.queue.clear()
            self.hurry_at = math.inf

    def take(self, now: float) -> tuple[list[Ticket], list[Ticket], bool]:
        """The next batch, the tickets whose deadline has passed, and whether a bound cut the batch."""
        queue, bounds = self.queue, self.bounds
        members: list[Ticket] = []
        expired: list[Ticket] = []
        items = nbytes = 0
        is_cut = False
        while queue:
            ticket = queue[0]
            if not ticket.is_gone and ticket.deadline > now:
                if members and (
                    items + ticket.items > bounds.items or nbytes + ticket.nbytes > bounds.nbytes
                ):
                    is_cut = True
                    break
                members.append(ticket)
                items += ticket.items
                nbytes += ticket.nbytes
            elif not ticket.is_gone:
                expired.append(ticket)
            queue.popleft()
        self._left(members, expired)
        return members, expired, is_cut or items >= bounds.items

    def _left(self, members: list[Ticket], expired: list[Ticket]) -> None:
        if not self.queue:
            self.items = self.nbytes = 0
            self.hurry_at = math.inf
            return
        for ticket in (*members, *expired):
            self.items -= ticket.items
            self.nbytes -= ticket.nbytes
        self.look_ahead()

    def look_ahead(self) -> None:
        """Find the most urgent of the next batch's tickets; looking further would cost more than a batch."""
        following = islice(self.queue, self.bounds.items)
        deadlines = [ticket.deadline for ticket in following if not ticket.is_gone]
        self.hurry_at = min(deadlines, default=math.inf) - self.service_s


class Batch:
    """Tickets that travel together. `due_at` is when the backend should have answered."""

    __slots__ = ("due_at", "items", "lane", "members", "nbytes", "sent_at", "trigger", "wait_s")

    def __init__(self, lane: Lane, members: list[Ticket], trigger: Trigger, now: float) -> None:
        self.lane = lane
        self.members = members
        self.trigger = trigger
        self.sent_at = now
        self.due_at = now + max(lane.bounds.wait_s, 2 * lane.service_s)
        self.wait_s = now - members[0].arrived_at
        self.items = sum(ticket.items for ticket in members)
        self.nbytes = sum(ticket.nbytes for ticket in members)


class Former:
    """The lanes of one upstream that share a limit on batches in flight.

    `expired` collects tickets that were dropped because their deadline had passed; the shell empties it.
    """

    def __init__(self, *, is_eager: bool, limit: float = 1) -> None:
        self.limit = limit
        self.expired: list[Ticket] = []
        self.in_flight: dict[Batch, None] = {}
        self._is_eager = is_eager
        self._is_draining = False
        self._ready: deque[Lane] = deque()
        self._overdue: deque[Lane] = deque()
        self._unscheduled: list[Lane] = []
        self._heap: list[tuple[float, int, Lane]] = []
        self._sequence = count()

    def add(self, ticket: Ticket) -> bool:
        """Queue `ticket`; True when `next_batch` may have something to send now."""
        lane = ticket.lane
        hurry_at = lane.hurry_at
        lane.add(ticket)
        if self._is_eager or self._is_draining or lane.is_full:
            self._make_ready(lane)
        if lane.wakes_at == math.inf or lane.hurry_at < hurry_at:
            self._unscheduled.append(lane)
        return lane.is_ready and len(self.in_flight) < self.limit

    @property
    def is_waiting_for_time(self) -> bool:
        """Whether `next_wakeup` may have moved forward since it was last asked."""
        return bool(self._unscheduled)

    def withdraw(self, ticket: Ticket) -> None:
        """The caller of a queued `ticket` left."""
        ticket.lane.remove(ticket)

    def finished(self, batch: Batch) -> None:
        """`batch` came back, well or not."""
        del self.in_flight[batch]

    def drain(self) -> None:
        """From now on nothing waits for company."""
        self._is_draining = True
        for _, _, lane in self._heap:
            self._make_ready(lane)
        for lane in self._unscheduled:
            self._make_ready(lane)

    def next_batch(self, now: float, cause: Trigger = "idle") -> Batch | None:
        """The next batch to send, or None; `cause` names why a slot is free: ``idle`` or ``slot_free``."""
        self._promote(now)
        batch = None
        while batch is None and self._ready and len(self.in_flight) < self.limit:
            lane = self._ready.popleft()
            lane.is_ready = False
            batch = self._form(lane, now, cause)
        while batch is None and self._overdue and self._may_lend(now):
            lane = self._overdue.popleft()
            lane.is_overdue = False
            if lane.items and lane.due_at() <= now:
                batch = self._form(lane, now, "window")
            else:  # it was served meanwhile
                self._unscheduled.append(lane)
        return batch

    def next_wakeup(self, now: float) -> float:
        """When `next_batch` is to be asked again if nothing else happens; infinite: never.

        To be asked after `next_batch` returned None for the same `now`.
        """
        for lane in self._unscheduled:
            self._schedule(lane)
        self._unscheduled.clear()
        heap = self._heap
        while heap and (heap[0][0] != heap[0][2].wakes_at or not heap[0][2].items):
            when, _, lane = heapq.heappop(heap)
            if lane.wakes_at == when:
                lane.wakes_at = math.inf
        wakeup = heap[0][0] if heap else math.inf
        if self._overdue and len(self.in_flight) < self._most_lent:
            due = [batch.due_at for batch in self.in_flight if batch.due_at > now]
            wakeup = min(wakeup, min(due, default=math.inf))
        return wakeup

    @property
    def _most_lent(self) -> float:
        return 2 * self.limit + 1

    def _may_lend(self, now: float) -> bool:
        busy = len(self.in_flight)
        if busy <= self.limit and self._overdue[0].hurry_at <= now:
            return True
        late = sum(batch.due_at <= now for batch in self.in_flight)
        return busy < min(self.limit + late, self._most_lent)

    def _make_ready(self, lane: Lane) -> None:
        if not lane.is_ready:
            lane.is_ready = True
            self._ready.append(lane)

    def _schedule(self, lane: Lane) -> None:
        if lane.items:
            due_at = lane.due_at()
            if due_at < lane.wakes_at:
                lane.wakes_at = due_at
                heapq.heappush(self._heap, (due_at, next(self._sequence), lane))

    def _promote(self, now: float) -> None:
        """Let lanes whose time has come send."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, lane = heapq.heappop(heap)
            if lane.wakes_at != when:
                continue
            lane.wakes_at = math.inf
            if not lane.items:
                continue
            lane.look_ahead()
            if lane.due_at() > now:
                self._schedule(lane)
            elif not self._is_eager:
                self._make_ready(lane)
            elif not lane.is_overdue:
                lane.is_overdue = True
                self._overdue.append(lane)

    def _form(self, lane: Lane, now: float, cause: Trigger) -> Batch | None:
        hurries = lane.hurry_at <= now
        members, expired, is_cut = lane.take(now)
        if expired:
            self.expired += expired
        self._rearm(lane, now)
        if not members:
            return None
        if self._is_draining:
            cause = "drain"
        elif is_cut:
            cause = "full"
        elif cause == "window" or not self._is_eager:
            cause = "deadline" if hurries else "window"
        batch = Batch(lane, members, cause, now)
        self.in_flight[batch] = None
        return batch

    def _rearm(self, lane: Lane, now: float) -> None:
        """See to what `lane` still holds after a batch was taken."""
        lane.wakes_at = math.inf
        if not lane.items:
            return
        if self._is_eager or self._is_draining or lane.is_full or lane.due_at() <= now:
            self._make_ready(lane)
        self._unscheduled.append(lane)
