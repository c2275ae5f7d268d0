"""How batches of one upstream leave and land: the part of a batcher that its callers never see.

The layer below `proxy.batching.lane.Batcher`, which takes calls in. A batch is carried by a task that belongs
to the batcher; it gives its slot back when its callers have their answers, so that those who come straight
back are in the next one. One timer serves all lanes. It waits for nothing itself.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from proxy.batching.carrier import Carrier
from proxy.batching.expiry import Expiry
from proxy.batching.intake import Intake
from proxy.batching.outcome import Outcome
from proxy.batching.tickets import BatchEvents, Journey, Member
from proxy.batching.verification import Verification
from proxy.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from proxy.batching.codecs.base import Codec
    from proxy.batching.former import Batch, Trigger
    from proxy.exchange import Upstream
    from proxy.timing import Clock, Timer

__all__ = ("Departures",)

T = TypeVar("T")


class Departures:
    """See the module's text."""

    def __init__(
        self, upstream: Upstream, clock: Clock, events: BatchEvents, codecs: Mapping[str, Codec]
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._events = events
        self._intake = Intake(codecs)
        self._carrier = Carrier(upstream, clock, events)
        self._verification = Verification(upstream, self._intake.experience)
        self._expiry: Expiry[Member] = Expiry()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._is_woken = False
        self._is_closed = False

    def _wake_soon(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._is_woken = False
        self._pump("idle")

    def _ring(self) -> None:
        """The timer went off."""
        self._timer = None
        self._timer_at = math.inf
        for member in self._expiry.due(self._clock.now()):
            self._expire(member)
        self._pump("idle")

    def _pump(self, cause: Trigger) -> None:
        """Let everything leave that may."""
        if self._is_closed:
            return
        now = self._clock.now()
        for slots in self._intake.plans.slots:
            former = slots.former
            while (batch := former.next_batch(now, cause)) is not None:
                self._launch(batch)
            for ticket in former.expired:
                self._expire(cast("Member", ticket))
            former.expired.clear()
        self._arm()

    def _launch(self, batch: Batch) -> None:
        journey = self._depart(batch)
        journey.task = self._own(self._carrier.carry(journey.lane, journey.members))
        journey.task.add_done_callback(partial(self._come_back, journey))

    def _depart(self, batch: Batch) -> Journey:
        """`batch` leaves: count it and tell its members."""
        members = cast("list[Member]", batch.members)
        journey = Journey(batch, members, self._intake.experience.company.enter(batch))
        learner = journey.lane.plan.slots.learner
        if learner is not None:
            learner.started(batch.sent_at)
        self._events.batched(journey.lane.model, batch.items, batch.trigger, batch.wait_s)
        for member in members:
            member.board(journey)
        return journey

    def _come_back(self, journey: Journey, task: asyncio.Task[Outcome]) -> None:
        """A batch came back, or was given up, perhaps before it left."""
        journey.settle(is_given_up=task.cancelled())
        has_outcome = not task.cancelled() and task.exception() is None
        self._land(journey, task.result() if has_outcome else Outcome())
        journey.members.clear()  # they know their journey too: a cycle that only the collector would break

    def _land(self, journey: Journey, outcome: Outcome) -> None:
        """Learn from a batch that ended, however it did, and give its slot to the next."""
        experience = self._intake.experience
        was_alone = experience.company.leave(journey.batch)
        journey.lane.plan.former.finished(journey.batch)
        experience.learn(journey, outcome, self._clock.now(), was_alone=was_alone)
        self._pump("slot_free")
        comparison = self._verification.of(journey, outcome)
        if comparison is not None:
            self._own(comparison)

    def _own(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """A task that ends with the batcher."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)
        return task

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            context = {"message": "a lane's task failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    def _arm(self) -> None:
        """Have the timer ring when the next lane or deadline is due."""
        now = self._clock.now()
        when = self._expiry.next_at()
        for slots in self._intake.plans.slots:
            when = min(when, slots.former.next_wakeup(now))
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._clock.call_at(when, self._ring)

    def _expire(self, member: Member) -> None:
        """Nobody wants the answer any more."""
        self._part(member)
        member.fail(DeadlineExceeded())

    def _part(self, member: Member) -> None:
        """Take `member` out of its lane or of its batch."""
        if member.journey is not None:
            member.journey.leave()
        elif not member.is_gone:
            member.home.plan.former.withdraw(member)
