"""The lanes of one upstream: takes calls in, lets batches out, gives each caller its answer.

Owned by the application, one for each upstream. A caller's coroutine waits for its own future and nothing
else; a batch is carried by a task that belongs to the batcher, so a caller who leaves disturbs nobody:
before departure its place is freed, afterwards its part is dropped, and the upstream call is given up only
when all have left. One timer serves all lanes. `drain` sends what waits and ends when the last answer is
in; `close` gives up.

An arrival that may leave at once leaves when all have come that were read from their sockets in the same turn
of the loop: with the last of them, if it is known to be that, else at the end of the turn. So they travel
together, and nobody waits for the clock. A call that comes alone to a free slot is carried by its own caller
and sent before it is examined (`ahead`): there is no task, no future, no further turn of the loop and no
reading of its body between its listener and the upstream.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from proxy.batching.ahead import Ahead
from proxy.batching.carrier import Carrier, outcome_of
from proxy.batching.codecs import CODECS
from proxy.batching.expiry import Expiry
from proxy.batching.explain import describe, explain
from proxy.batching.intake import Intake
from proxy.batching.keys import NO_WISHES
from proxy.batching.outcome import Outcome
from proxy.batching.tickets import BatchEvents, CallLane, Journey, Member, Subject, discard
from proxy.batching.verification import Verification
from proxy.errors import DeadlineExceeded, Draining, MergeRefused, ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from proxy.batching.codecs.base import Codec
    from proxy.batching.former import Batch, Trigger
    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Call, Reply, Upstream
    from proxy.timing import Clock, Timer

    Inquiry = Callable[[Call], Awaitable[int | None]]

__all__ = ("Batcher",)

T = TypeVar("T")


class Batcher:
    """Coalesces calls to one upstream.

    `inquire`, if given, is asked once for each path how many items its model takes at once.
    """

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        events: BatchEvents,
        *,
        codecs: Mapping[str, Codec] = CODECS,
        inquire: Inquiry | None = None,
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._events = events
        self._inquire = inquire
        self._intake = Intake(codecs)
        self.waiting = self._intake.waiting
        self.limits = self._intake.limits
        self._carrier = Carrier(upstream, clock, events)
        self._verification = Verification(upstream, self._intake.experience)
        self._expiry: Expiry[Member] = Expiry()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._is_woken = False
        self._is_closed = False
        self._is_merging = True  # the last call that was examined could be merged

    async def submit(self, call: Call, subject: Subject, policy: BatchPolicy) -> Reply:
        """The answer to `call`, which may travel with others; raises `ProxyError`.

        What cannot be merged safely is forwarded as it came. A call whose deadline passes while it waits
        gets `DeadlineExceeded`; one that is known to have to wait too long gets `Overloaded` at once.
        """
        if self._is_closed:
            raise Draining
        if policy.mode == "off":  # no refusal is raised for it: this may be every call
            return await self._forward(call, subject, "off")
        now = self._clock.now()
        if call.is_newest and self._is_merging and now < call.deadline and isinstance(call.body, bytes):
            former = self._intake.plans.of(policy).former
            if former.reserve(now):
                return await self._go_ahead(Ahead(call, subject, policy, former, now))
        try:
            member = self._place(call, subject, policy, now)
        except MergeRefused as refusal:
            return await self._forward(call, subject, refusal.why)
        former = member.home.plan.former
        may_leave = former.add(member)
        self._expiry.add(member)
        if may_leave and call.is_newest:
            self._pump("idle")
        elif may_leave:
            self._wake_soon()
        elif former.is_waiting_for_time or member.deadline < self._timer_at:
            self._arm()
        try:
            return await member.future
        except asyncio.CancelledError:
            self._withdraw(member)
            raise
        finally:
            self._expiry.leave(member)

    async def drain(self) -> None:
        """Send whatever waits, and wait until its answers are in; callers see to the calls they carry."""
        self._intake.plans.drain()
        self._pump("drain")
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up: callers who still wait get `Draining`, upstream calls are cancelled."""
        self._is_closed = True
        for lane in self._intake.lanes.values():
            for ticket in lane.tickets():
                cast("Member", ticket).fail(Draining())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()

    # ------------------------------------------------------------ what is known
    def snapshot(self) -> dict[str, object]:
        """What the lanes are doing and have learned, as JSON values."""
        return describe(self._intake, self._clock.now())

    def explain(self, call: Call, subject: Subject, policy: BatchPolicy) -> dict[str, object]:
        """Whether `call` would be merged and with what, as JSON values. Sends nothing."""
        return explain(self._intake, call, subject, policy, self._clock.now())

    def declare(self, model: str, items: int | None) -> None:
        """`model` takes at most `items` at once; 0: it takes no batches; None: there is no limit."""
        self._intake.experience.declare(model, items)

    def forget(self, model: str) -> None:
        """`model` was loaded anew: whatever was learned of the old one is forgotten."""
        self._intake.forget(model)

    # ------------------------------------------------------------- arrivals
    def _place(
        self, call: Call, subject: Subject, policy: BatchPolicy, now: float, *, has_left: bool = False
    ) -> Member:
        """A place for `call` in its lane; raises `MergeRefused`, `Overloaded`."""
        self._is_merging = False
        examined = self._intake.examine(call, subject, policy)
        lane = self._intake.place(examined, call, subject, now, has_left=has_left)
        self._is_merging = True
        member = Member(lane, call, examined.prepared, now, self._loop.create_future())
        if examined.wishes is not NO_WISHES:
            member.heed(examined.wishes)
        if not lane.profile.is_known:
            lane.profile.is_known = True
            if self._inquire is not None:
                self._own(self._ask_limit(self._inquire, lane, call))
        return member

    async def _forward(self, call: Call, subject: Subject, why: str) -> Reply:
        self._events.refused(subject.model, why)
        company = self._intake.experience.company
        company.enter()
        try:
            return await self._upstream.exchange(call)
        finally:
            company.leave()

    async def _ask_limit(self, inquire: Inquiry, lane: CallLane, call: Call) -> None:
        with contextlib.suppress(ProxyError):  # a backend that does not say has no known limit
            self.declare(lane.model, await inquire(call))

    # ----------------------------------------------------------- departures
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

    async def _go_ahead(self, ahead: Ahead) -> Reply:
        """The answer to a call that is sent first and examined afterwards."""
        self._loop.call_soon(self._book, ahead)  # it is on its way by then
        reply: Reply | None = None
        try:
            reply = await self._upstream.exchange(ahead.call)
            return reply
        finally:
            self._book(ahead)  # an upstream may end a call before the loop has turned
            took_s = self._clock.now() - ahead.sent_at
            if ahead.former.waiting:
                self._conclude(ahead, reply, took_s)
            else:  # the answer leaves first
                self._loop.call_soon(self._conclude, ahead, reply, took_s)

    def _book(self, ahead: Ahead) -> None:
        """Find out what left ahead: a batch of one, or a call that is not merged."""
        if ahead.is_booked:
            return
        ahead.is_booked = True
        ahead.former.release()
        company = self._intake.experience.company
        company.enter()
        try:
            member = self._place(ahead.call, ahead.subject, ahead.policy, ahead.sent_at, has_left=True)
        except MergeRefused as refusal:
            self._events.refused(ahead.subject.model, refusal.why)
            if ahead.former.waiting:  # for a slot that was not needed
                self._pump("slot_free")
            return
        company.leave()
        ahead.journey = self._depart(ahead.former.fill(member, ahead.sent_at))

    def _conclude(self, ahead: Ahead, reply: Reply | None, took_s: float) -> None:
        """What left ahead came back, or was given up."""
        if ahead.journey is None:
            self._intake.experience.company.leave()
        else:
            self._land(ahead.journey, Outcome() if reply is None else outcome_of(ahead.call, reply, took_s))

    def _come_back(self, journey: Journey, task: asyncio.Task[Outcome]) -> None:
        """A batch came back, or was given up, perhaps before it left."""
        journey.settle(is_given_up=task.cancelled())
        has_outcome = not task.cancelled() and task.exception() is None
        self._land(journey, task.result() if has_outcome else Outcome())

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
        journey.members.clear()  # they know their journey too: a cycle that only the collector would break

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

    # --------------------------------------------------------------- leaving
    def _expire(self, member: Member) -> None:
        """Nobody wants the answer any more."""
        self._part(member)
        member.fail(DeadlineExceeded())

    def _withdraw(self, member: Member) -> None:
        """The caller was cancelled while it waited, or after its answer came and before it saw it."""
        if member.future.cancelled():
            self._part(member)
        elif member.future.exception() is None:
            discard(member.future.result())

    def _part(self, member: Member) -> None:
        """Take `member` out of its lane or of its batch."""
        if member.journey is not None:
            member.journey.leave()
        elif not member.is_gone:
            member.home.plan.former.withdraw(member)
