"""The lanes of one upstream: takes calls in, lets batches out, gives each caller its answer.

Owned by the application, one for each upstream. A caller's coroutine waits for its own future and nothing
else; a batch is carried by a task that belongs to the batcher, so a caller who leaves disturbs nobody:
before departure its place is freed, afterwards its part is dropped, and the upstream call is given up only
when all have left. One timer serves all lanes. `drain` sends what waits and ends when the last answer is
in; `close` gives up.

An arrival that may leave at once leaves at the end of the loop's turn, not in the middle of it: requests read
from their sockets in the same turn then travel together, and nobody waits for the clock.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

from proxy.batching.carrier import Carrier
from proxy.batching.codecs import CODECS
from proxy.batching.expiry import Expiry
from proxy.batching.former import Batch, Bounds, Former, Trigger
from proxy.batching.keys import HeaderRules
from proxy.batching.tickets import BatchEvents, CallLane, Journey, Member, Subject, discard
from proxy.errors import DeadlineExceeded, Draining, MergeRefused, ProxyError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from proxy.batching.codecs.base import Codec, Prepared
    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Call, Reply, Upstream
    from proxy.timing import Clock, Timer

__all__ = ("Batcher",)

_MOST_IDLE_LANES = 1024
_MOST_PLANS = 256


class _Plan:
    """What follows from one policy."""

    __slots__ = ("bounds", "former", "policy", "rules")

    def __init__(self, policy: BatchPolicy, rules: HeaderRules, former: Former) -> None:
        self.policy = policy
        self.rules = rules
        self.former = former
        self.bounds = Bounds(policy.items.start, policy.max_bytes, policy.max_wait)


class Batcher:
    """Coalesces calls to one upstream."""

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        events: BatchEvents,
        *,
        codecs: Mapping[str, Codec] = CODECS,
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._events = events
        self._codecs = codecs
        self._carrier = Carrier(upstream, clock, events)
        self._plans: dict[int, _Plan] = {}
        self._formers: dict[Hashable, Former] = {}
        self._lanes: dict[Hashable, CallLane] = {}
        self._most_lanes = _MOST_IDLE_LANES
        self._expiry: Expiry[Member] = Expiry()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._is_woken = False
        self._is_draining = False
        self._is_closed = False

    async def submit(self, call: Call, subject: Subject, policy: BatchPolicy) -> Reply:
        """The answer to `call`, which may travel with others; raises `ProxyError`.

        What cannot be merged safely is forwarded as it came. A call whose deadline passes while it waits
        gets `DeadlineExceeded`.
        """
        try:
            plan, lane, prepared = self._place(call, subject, policy)
        except MergeRefused as refusal:
            self._events.refused(subject.model, refusal.why)
            return await self._upstream.exchange(call)
        loop = asyncio.get_running_loop()
        member = Member(lane, call, prepared, self._clock.now(), loop.create_future())
        self._expiry.add(member)
        if plan.former.add(member):
            if not self._is_woken:
                self._is_woken = True
                loop.call_soon(self._wake)
        elif plan.former.is_waiting_for_time or member.deadline < self._timer_at:
            self._arm()
        try:
            return await member.future
        except asyncio.CancelledError:
            self._withdraw(member)
            raise
        finally:
            member.is_done = True
            self._expiry.leave(member)

    async def drain(self) -> None:
        """Send whatever waits, and wait until every answer is in."""
        self._is_draining = True
        for former in self._formers.values():
            former.drain()
        self._pump("drain")
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up: callers who still wait get `Draining`, upstream calls are cancelled."""
        self._is_closed = True
        for lane in self._lanes.values():
            for ticket in lane.queue:
                if isinstance(ticket, Member):
                    ticket.fail(Draining())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()

    def waiting(self) -> Iterable[tuple[str, int]]:
        """(model, calls that wait in a lane), for a gauge; models may repeat."""
        return [
            (lane.model, sum(not ticket.is_gone for ticket in lane.queue))
            for lane in self._lanes.values()
            if lane.items
        ]

    # ------------------------------------------------------------- arrivals
    def _place(self, call: Call, subject: Subject, policy: BatchPolicy) -> tuple[_Plan, CallLane, Prepared]:
        """The lane that `call` may wait in; raises `MergeRefused`."""
        codec = self._codecs.get(subject.codec or "")
        body = call.body
        if policy.mode == "off":
            raise MergeRefused("off")
        if codec is None:
            raise MergeRefused("no_codec")
        if not isinstance(body, bytes):
            raise MergeRefused("streamed_body")
        plan = self._plans.get(id(policy)) or self._adopt(policy)
        headers = plan.rules.key(call.headers)
        prepared = codec.prepare(body, call.headers)
        key = (plan, call.identity, call.method, call.target, call.scheme, codec.name, headers, prepared.key)
        lane = self._lanes.get(key)
        if lane is None:
            lane = CallLane(key, plan.bounds, call=call, model=subject.model, codec=codec, headers=headers)
            self._keep(lane)
        elif lane.suspended_until > self._clock.now():
            raise MergeRefused("suspended")
        return plan, lane, prepared

    def _adopt(self, policy: BatchPolicy) -> _Plan:
        """The plan for a policy not seen before."""
        if len(self._plans) >= _MOST_PLANS:  # reloads leave old policies behind
            self._plans.clear()
        is_eager = policy.mode == "adaptive"
        limit = (1 if is_eager else math.inf) if policy.inflight == "auto" else policy.inflight
        former = self._formers.get((is_eager, policy.inflight))
        if former is None:
            former = self._formers[is_eager, policy.inflight] = Former(is_eager=is_eager, limit=limit)
            if self._is_draining:
                former.drain()
        plan = self._plans[id(policy)] = _Plan(policy, HeaderRules(policy.isolate, policy.ignore), former)
        return plan

    def _keep(self, lane: CallLane) -> None:
        """Remember `lane`; lanes that nothing waits in are forgotten when there are too many."""
        lanes = self._lanes
        if len(lanes) >= self._most_lanes:
            now = self._clock.now()
            self._lanes = lanes = {
                key: kept for key, kept in lanes.items() if kept.items or kept.suspended_until > now
            }
            # All of them may be busy: then the next look is due when there are twice as many.
            self._most_lanes = max(_MOST_IDLE_LANES, 2 * len(lanes))
        lanes[lane.key] = lane

    # ----------------------------------------------------------- departures
    def _wake(self) -> None:
        self._is_woken = False
        self._pump("idle")

    def _ring(self) -> None:
        """The timer went off."""
        self._timer = None
        self._timer_at = math.inf
        now = self._clock.now()
        for member in self._expiry.due(now):
            self._expire(member)
        self._pump("idle")

    def _pump(self, cause: Trigger) -> None:
        """Let everything leave that may."""
        if self._is_closed:
            return
        now = self._clock.now()
        for former in self._formers.values():
            while (batch := former.next_batch(now, cause)) is not None:
                self._launch(former, batch)
            for ticket in former.expired:
                self._expire(cast("Member", ticket))
            former.expired.clear()
        self._arm()

    def _launch(self, former: Former, batch: Batch) -> None:
        journey = Journey(batch)
        members = cast("list[Member]", batch.members)
        for member in members:
            member.journey = journey
        task = asyncio.get_running_loop().create_task(self._travel(former, batch, members))
        journey.task = task
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._landed(task, members))

    async def _travel(self, former: Former, batch: Batch, members: list[Member]) -> None:
        try:
            await self._carrier.carry(members[0].lane, batch, members)
        finally:
            former.finished(batch)
            self._pump("slot_free")

    def _landed(self, task: asyncio.Task[None], members: list[Member]) -> None:
        """A batch's task ended: by now everyone is settled, unless it was given up or has a bug."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            task.get_loop().call_exception_handler(
                {"message": "a batch failed", "exception": error, "task": task}
            )
        for member in members:
            if not member.future.done():
                member.fail(Draining() if error is None else ProxyError())

    def _arm(self) -> None:
        """Have the timer ring when the next lane or deadline is due."""
        now = self._clock.now()
        when = self._expiry.next_at()
        for former in self._formers.values():
            when = min(when, former.next_wakeup(now))
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._clock.call_at(when, self._ring)

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
            member.lane.remove(member)
