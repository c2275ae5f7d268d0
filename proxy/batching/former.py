"""When a batch leaves and who is in it: the dispatch rules of one upstream, without clocks or sockets.

Theory of operation
-------------------
Tickets of equal batch key wait in a `Lane`. A `Former` holds the lanes of one upstream and answers one
question, `next_batch(now)`: which lane may send now, and how much of it. The shell asks after each arrival,
completion and timer, until the answer is None.

*Eager* formers (mode ``adaptive``) are work-conserving. While fewer than `limit` batches are in flight,
whatever is there leaves at once (trigger ``idle``): a lone request never waits. While `limit` are in
flight, tickets collect, and when one returns everything that collected leaves together (``slot_free``). The
number of batches in flight is what forms the batches: too few starve a parallel backend, too many make
small batches that queue inside it. The one exception is a backend that is asked one thing at a time: there a
lane may wait for callers who were answered a moment ago and are known to come straight back (`returning`).

A call that comes when nobody waits and a slot is free would pass through its lane untouched. It may
`reserve` the slot and leave before anybody knows which lane it belongs to; `fill` makes it the batch that it
would have been.

*Patient* formers (mode ``window``) send a lane when it holds enough items or its window has ended.

Both cut a batch at the path's item cap and the policy's bytes (``full``); a ticket larger than that travels
alone. Lanes take turns as `fairness` says.

*Late batches.* A slot that a stuck call holds would stop everyone, so a batch that is overdue (in flight
for longer than twice what the backend is known to need, and longer than the window) lends its slot: a lane
whose window has ended may send in its place (``window``). Before anything is known about the backend this
makes the window a bound on waiting; afterwards a slow but punctual backend is not flooded with small
batches. At most `limit` + 1 slots are lent, so a dead backend is not buried either. A caller who asked for
a shorter window gets a lent slot when it ends. A ticket whose deadline would be missed by waiting longer
takes one slot more than the limit (``deadline``). A limit that the operator has set is kept whatever comes:
with `lends` false no slot is lent, and a stuck call holds its slot until its own time is over.

*Time.* One heap holds the next instant at which each waiting lane wants attention; `next_wakeup` is its head.
Entries are withdrawn lazily: an entry is valid only while its lane still expects exactly that instant. All
operations are O(1) amortised but for the heap, which has one live entry for each lane that is blocked.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Literal, cast

from proxy.batching.fairness import FairQueue

if TYPE_CHECKING:
    from proxy.batching.queueing import Lane, Ticket

__all__ = ("Batch", "Former", "Trigger")

Trigger = Literal["idle", "slot_free", "full", "window", "deadline", "drain"]


class Batch:
    """Tickets that travel together. `due_at` is when the backend should have answered."""

    __slots__ = ("due_at", "items", "lane", "members", "sent_at", "trigger", "wait_s")

    def __init__(self, lane: Lane, members: list[Ticket], trigger: Trigger, now: float) -> None:
        self.lane = lane
        self.members = members
        self.trigger = trigger
        self.sent_at = now
        oldest_at, items = now, 0
        for ticket in members:
            items += ticket.items
            oldest_at = min(oldest_at, ticket.arrived_at)
        self.wait_s = now - oldest_at
        self.items = items
        self.due_at = now + max(lane.bounds.wait_s, 2 * lane.profile.model.p95_s(self.items))


class Former:
    """The lanes of one upstream that share a limit on batches in flight.

    `expired` collects tickets that were dropped because their deadline had passed; the shell empties it.
    `awaited_until` is when callers who are worth waiting for should be back, in whatever lane. `waiting`
    counts tickets; `backlog_s` is how long the backend needs for all of them, one batch after the other, as
    far as is known.
    """

    def __init__(self, *, is_eager: bool, limit: float = 1, lends: bool = True) -> None:
        self.limit = limit
        self._lends = lends
        self.expired: list[Ticket] = []
        self.in_flight: dict[Batch, None] = {}
        self.awaited_until = 0.0
        self.waiting = 0
        self.backlog_s = 0.0
        self._reserved = 0
        self._is_eager = is_eager
        self._is_draining = False
        self._ready = FairQueue()
        self._held: list[Lane] = []
        self._overdue: deque[Lane] = deque()
        self._unscheduled: dict[Lane, None] = {}
        self._heap: list[tuple[float, int, Lane]] = []
        self._sequence = count()

    def add(self, ticket: Ticket) -> bool:
        """Queue `ticket`; True when `next_batch` may have something to send now."""
        lane = ticket.lane
        lane.add(ticket)
        self.waiting += 1
        ticket.cost_s = ticket.items * lane.profile.item_cost_s
        self.backlog_s += ticket.cost_s
        if self._is_eager or self._is_draining or lane.is_full:
            self._ready.add(lane)
        if lane.due_at() < lane.wakes_at:
            self._unscheduled[lane] = None
        return lane.listed_as is not None and self._busy < self.limit

    def reserve(self, now: float) -> bool:
        """Take a slot for a call that has just come, if it would leave at once, whatever its lane; whoever
        takes it says `release`."""
        if not self._is_eager or self._is_draining or self.waiting or self._busy >= self.limit:
            return False
        if self.limit == 1 and now < self.awaited_until:
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        """Give a reserved slot back."""
        self._reserved -= 1

    def fill(self, ticket: Ticket, sent_at: float) -> Batch:
        """The batch of `ticket`, which left alone in a reserved slot, now released."""
        lane = ticket.lane
        lane.returns.came(ticket.items, ticket.arrived_at)
        batch = Batch(lane, [ticket], "full" if ticket.items >= lane.profile.cap.items else "idle", sent_at)
        self.in_flight[batch] = None
        return batch

    @property
    def is_waiting_for_time(self) -> bool:
        """Whether `next_wakeup` may have moved forward since it was last asked."""
        return bool(self._unscheduled)

    def withdraw(self, ticket: Ticket) -> None:
        """The caller of a queued `ticket` left."""
        ticket.lane.remove(ticket)
        self._left([ticket])

    def finished(self, batch: Batch) -> None:
        """`batch` came back, well or not."""
        del self.in_flight[batch]

    def drain(self) -> None:
        """From now on nothing waits for company."""
        self._is_draining = True
        for lane in (*(lane for _, _, lane in self._heap), *self._unscheduled):
            self._ready.add(lane)

    def next_batch(self, now: float, cause: Trigger = "idle") -> Batch | None:
        """The next batch to send, or None; `cause` names why a slot is free: ``idle`` or ``slot_free``."""
        self._promote(now)
        batch = self._next_ready(now, cause)
        if batch is not None:
            return batch
        while self._overdue and self._may_lend(now):
            lane = self._overdue.popleft()
            lane.is_overdue = False
            if lane.due_at() > now:  # it was served meanwhile
                self._unscheduled[lane] = None
                continue
            batch = self._form(lane, now, "window")
            if batch is not None:
                return batch
        return None

    def next_wakeup(self, now: float) -> float:
        """When `next_batch` is to be asked again if nothing else happens; infinite: never.

        To be asked after `next_batch` returned None for the same `now`.
        """
        for lane in self._unscheduled:
            self._schedule(lane)
        self._unscheduled.clear()
        heap = self._heap
        while heap and heap[0][0] != heap[0][2].wakes_at:
            heapq.heappop(heap)
        wakeup = heap[0][0] if heap else math.inf
        for lane in self._held:
            wakeup = min(wakeup, lane.returns.until)
        if self._overdue and self._busy < self._most_lent:
            due = [batch.due_at for batch in self.in_flight if batch.due_at > now]
            wakeup = min(wakeup, min(due, default=math.inf))
        return wakeup

    def _next_ready(self, now: float, cause: Trigger) -> Batch | None:
        """The next batch for a slot that is free."""
        held: list[Lane] = []
        batch: Batch | None = None
        while batch is None and self._busy < self.limit:
            lane = cast("Lane | None", self._ready.pop(now))
            if lane is None:
                break
            if self.limit == 1 and self._is_eager and not self._is_draining and lane.is_incomplete(now):
                held.append(lane)
            else:
                batch = self._form(lane, now, "slot_free" if lane.returns.until else cause)
        for lane in held:
            self._ready.add(lane)
        self._held = held
        return batch

    @property
    def _busy(self) -> int:
        return len(self.in_flight) + self._reserved

    @property
    def _most_lent(self) -> float:
        return 2 * self.limit + 1

    def _may_lend(self, now: float) -> bool:
        busy = self._busy
        if busy <= self.limit and self._overdue[0].hurry_at <= now:
            return True
        late = sum(batch.due_at <= now for batch in self.in_flight)
        return busy < min(self.limit + late, self._most_lent)

    def _schedule(self, lane: Lane) -> None:
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
            lane.look_ahead()
            if lane.due_at() > now:
                self._schedule(lane)
            elif not self._is_eager:
                self._ready.add(lane)
            elif self._lends and not lane.is_overdue:
                lane.is_overdue = True
                self._overdue.append(lane)

    def _form(self, lane: Lane, now: float, cause: Trigger) -> Batch | None:
        is_over = lane.window_ends_at <= now
        members, expired, is_full = lane.take(now)
        self._left(expired)
        self._left(members)
        self.expired += expired
        self._rearm(lane, now)
        if not members:
            return None
        if self._is_draining:
            cause = "drain"
        elif is_full:
            cause = "full"
        elif cause == "window" or not self._is_eager:
            cause = "window" if is_over else "deadline"
        batch = Batch(lane, members, cause, now)
        self._ready.charge(lane, batch.items)
        self.in_flight[batch] = None
        return batch

    def _rearm(self, lane: Lane, now: float) -> None:
        """See to what `lane` still holds after a batch was taken."""
        lane.wakes_at = math.inf
        if lane.items:
            if self._is_eager or self._is_draining or lane.is_full or lane.due_at() <= now:
                self._ready.add(lane)
            self._unscheduled[lane] = None

    def _left(self, tickets: list[Ticket]) -> None:
        self.waiting -= len(tickets)
        for ticket in tickets:
            self.backlog_s -= ticket.cost_s
        if not self.waiting:  # differences of sums drift: start anew whenever the truth is known
            self.backlog_s = 0.0
