"""The former under any sequence of events: nobody is lost, sent twice, overtaken or kept without need."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.batching.cap import ItemCap
from proxy.batching.former import Batch, Former
from proxy.batching.profile import Profile
from proxy.batching.queueing import Bounds, Lane, Ticket

ITEMS, NBYTES, WAIT_S = 8, 100, 0.05


class FormerMachine(RuleBasedStateMachine):
    """Arrivals, departures, answers, leavers and time, in any order."""

    @initialize(is_eager=st.booleans(), limit=st.sampled_from((1, 2, 4, math.inf)))
    def start(self, is_eager: bool, limit: float) -> None:
        self.former = Former(is_eager=is_eager, limit=limit)
        self.is_eager = is_eager
        self.is_draining = False
        self.now = 0.0
        self.lanes = [
            Lane(number, Bounds(NBYTES, WAIT_S), Profile(lambda: ItemCap(ITEMS, 1, ITEMS)), tenant=number % 2)
            for number in range(3)
        ]
        self.queued: list[Ticket] = []
        self.sent: list[Ticket] = []
        self.gone: list[Ticket] = []
        self.order: dict[Ticket, int] = {}

    @rule(
        lane=st.integers(0, 2),
        items=st.integers(1, 10),
        nbytes=st.integers(1, 120),
        patience=st.sampled_from((0.01, 0.2, math.inf)),
        urgency=st.sampled_from((3, 3, 3, 0, 6)),
        wish=st.sampled_from((None, None, 0.0, 0.02)),
    )
    def arrive(
        self, lane: int, items: int, nbytes: int, patience: float, urgency: int, wish: float | None
    ) -> None:
        ticket = Ticket(self.lanes[lane], items, nbytes, self.now, self.now + patience)
        ticket.urgency = urgency
        if wish is not None:
            ticket.wish(wish)
        self.order[ticket] = len(self.order)
        self.queued.append(ticket)
        self.former.add(ticket)
        self.dispatch()

    @rule(lane=st.integers(0, 2), items=st.integers(1, 10), is_merged=st.booleans())
    def go_ahead(self, lane: int, items: int, is_merged: bool) -> None:
        """Somebody leaves before it is known which lane is theirs, if that does not matter."""
        is_free = not self.queued and len(self.former.in_flight) < self.former.limit
        assert self.former.reserve(self.now) == (self.is_eager and not self.is_draining and is_free)
        if not self.former._reserved:
            return
        self.former.release()
        if is_merged:
            ticket = Ticket(self.lanes[lane], items, 10, self.now)
            self.order[ticket] = len(self.order)
            self.sent.append(ticket)
            self.former.fill(ticket, self.now)
        self.dispatch()

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.queued), "leaver")
        self.queued.remove(ticket)
        self.gone.append(ticket)
        self.former.withdraw(ticket)

    @precondition(lambda self: self.former.in_flight)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(list(self.former.in_flight)), "batch")
        self.former.finished(batch)
        self.dispatch()

    @rule(span_s=st.sampled_from((0.0001, 0.01, 0.049, 0.05, 0.3)))
    def wait(self, span_s: float) -> None:
        """Time passes; whoever holds the timer wakes when it was told to."""
        until = self.now + span_s
        looks = 0
        while (wakeup := self.former.next_wakeup(self.now)) <= until:
            looks += 1
            assert looks <= 10 + 4 * len(self.order), "it asks to be woken again and again for nothing"
            self.now = max(self.now, wakeup)
            self.dispatch()
        self.now = until
        self.dispatch()

    @rule()
    def drain(self) -> None:
        self.is_draining = True
        self.former.drain()
        self.dispatch()

    def dispatch(self) -> None:
        while (batch := self.former.next_batch(self.now, "slot_free")) is not None:
            self.check(batch)
        for ticket in self.former.expired:
            assert ticket.deadline <= self.now
            self.queued.remove(ticket)
            self.gone.append(ticket)
        self.former.expired.clear()
        self.former.next_wakeup(self.now)

    def check(self, batch: Batch) -> None:
        assert batch.members
        for ticket in batch.members:
            assert ticket.lane is batch.lane
            assert ticket.deadline > self.now
            self.queued.remove(ticket)  # raises if it was sent before, or left
            self.sent.append(ticket)
        if len(batch.members) > 1:
            assert batch.items <= ITEMS
            assert sum(ticket.nbytes for ticket in batch.members) <= NBYTES
        by_class: dict[int, list[int]] = {}
        for ticket in batch.members:
            by_class.setdefault(ticket.urgency, []).append(self.order[ticket])
        assert all(places == sorted(places) for places in by_class.values())
        waiting = [
            ticket for ticket in self.queued if ticket.lane is batch.lane and ticket.deadline > self.now
        ]
        for ticket in waiting:  # first come, first served within a class
            assert self.order[ticket] > max(by_class.get(ticket.urgency, [-1]))
        lent = self.former.limit + 1 if self.is_eager else 0
        assert len(self.former.in_flight) <= self.former.limit + lent

    @invariant()
    def nobody_is_lost(self) -> None:
        if not hasattr(self, "former"):
            return
        assert sorted(map(id, self.queued)) == sorted(id(t) for lane in self.lanes for t in lane.tickets())
        assert self.former.waiting == len(self.queued)
        for lane in self.lanes:
            assert lane.items == sum(ticket.items for ticket in lane.tickets())
            assert lane.nbytes == sum(ticket.nbytes for ticket in lane.tickets())

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        if not hasattr(self, "former") or not self.queued:
            return
        is_free = len(self.former.in_flight) < self.former.limit
        if self.is_eager or self.is_draining:
            # A ticket may have expired since the last look; only the living count.
            assert not is_free or all(ticket.deadline <= self.now for ticket in self.queued)

    def teardown(self) -> None:
        """Once everybody who waits may leave, everybody does."""
        if not hasattr(self, "former"):
            return
        self.drain()
        for _ in range(1000):
            if not self.former.in_flight:
                break
            self.former.finished(next(iter(self.former.in_flight)))
            self.dispatch()
        assert not self.queued
        assert len(self.sent) + len(self.gone) == len(self.order)
        assert self.former.next_wakeup(self.now) == math.inf
        assert self.former.backlog_s == 0


TestFormer = FormerMachine.TestCase
TestFormer.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
