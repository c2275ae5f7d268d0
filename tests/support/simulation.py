"""A backend that is arithmetic, and the lanes before it: hours of traffic in seconds, the same every time.

The decisions are the real ones (plans, former, experience with everything that it learns); what is
simulated is the world: a clock, Poisson arrivals, the network, and a backend that needs ``base + items x
each`` seconds (give or take) for a batch and works on a fixed number of batches at once.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from proxy.batching.codecs import CODECS
from proxy.batching.codecs.base import Prepared
from proxy.batching.experience import Experience
from proxy.batching.outcome import Outcome
from proxy.batching.plan import Plans
from proxy.batching.tickets import CallLane, Journey, Member
from tests.support.batching import predict_call
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    import asyncio

    from proxy.batching.former import Batch, Trigger
    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Reply

__all__ = ("Backend", "Traffic", "simulate", "simulate_crowd")

MOST_WAITING = 1024
"""What the listener admits at once."""


@dataclass(frozen=True)
class Backend:
    """What a batch costs, and how many are worked on at once."""

    parallelism: int
    base_s: float = 0.005
    each_s: float = 0.000_15
    jitter: float = 0.05
    network_s: float = 0.000_5


@dataclass
class Traffic:
    """What came of it, in the order of arrival: (arrived at, latency, wait in the lane)."""

    calls: list[tuple[float, float, float]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    turned_away: int = 0

    def after(self, instant: float) -> list[float]:
        """The sorted latencies of calls that arrived after `instant`."""
        return sorted(latency for arrived_at, latency, _ in self.calls if arrived_at >= instant)

    def quantile(self, share: float, after: float) -> float:
        """The latency that `share` of the calls after that instant did not exceed."""
        latencies = self.after(after)
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))]


class _World:
    def __init__(self, policy: BatchPolicy, backend: Backend, seed: int) -> None:
        self.clock = FakeClock(0.0)
        self.backend = backend
        self.chance = random.Random(seed)
        self.traffic = Traffic()
        self.experience = Experience()
        self.plan = Plans().of(policy)
        self.former = self.plan.former
        profile = self.experience.profile("path", "m", b"/", self.plan)
        self.call = call = predict_call(1.0)
        self.lane = CallLane("key", self.plan, profile, call=call, codec=CODECS["kserve_v1"], headers=())
        self.free = backend.parallelism
        self.queue: deque[Journey] = deque()
        self.wakes_at = math.inf
        self.thinks_s: float | None = None

    def arrive(self, rate: float, until: float) -> None:
        """One call comes, and the next is on its way."""
        now = self.clock.now()
        following = now + self.chance.expovariate(rate)
        if following < until:
            self.clock.call_at(following, lambda: self.arrive(rate, until))
        if self.former.waiting >= MOST_WAITING:
            self.traffic.turned_away += 1
            return
        self.ask()

    def ask(self) -> None:
        """One call comes."""
        nobody = cast("asyncio.Future[Reply]", None)  # waits for the answer
        prepared = Prepared("key", 1, (bytes(100),))
        self.former.add(Member(self.lane, self.call, prepared, self.clock.now(), nobody))
        self.pump("idle")

    def pump(self, cause: Trigger) -> None:
        now = self.clock.now()
        while (batch := self.former.next_batch(now, cause)) is not None:
            self.send(batch, now)
        wakeup = self.former.next_wakeup(now)
        if wakeup < self.wakes_at:
            self.wakes_at = wakeup
            self.clock.call_at(wakeup, self.wake)

    def wake(self) -> None:
        self.wakes_at = math.inf
        self.pump("idle")

    def send(self, batch: Batch, now: float) -> None:
        members = cast("list[Member]", batch.members)
        journey = Journey(batch, members, self.experience.company.enter(batch))
        if self.plan.slots.learner is not None:
            self.plan.slots.learner.started(now)
        self.clock.call_at(now + self.backend.network_s, lambda: self.reach(journey))

    def reach(self, journey: Journey) -> None:
        """A batch is at the backend's door."""
        if self.free:
            self.free -= 1
            self.work(journey)
        else:
            self.queue.append(journey)

    def work(self, journey: Journey) -> None:
        needs_s = self.backend.base_s + self.backend.each_s * journey.batch.items
        needs_s *= 1 + self.chance.gauss(0, self.backend.jitter)
        self.clock.call_at(self.clock.now() + needs_s, lambda: self.done(journey))

    def done(self, journey: Journey) -> None:
        if self.queue:
            self.work(self.queue.popleft())
        else:
            self.free += 1
        self.clock.call_at(self.clock.now() + self.backend.network_s, lambda: self.answer(journey))

    def answer(self, journey: Journey) -> None:
        now, batch = self.clock.now(), journey.batch
        self.former.finished(batch)
        was_alone = self.experience.company.leave(batch)
        self.experience.learn(journey, Outcome(200, now - batch.sent_at), now, was_alone=was_alone)
        self.traffic.sizes.append(batch.items)
        self.traffic.limits.append(self.former.limit)
        for ticket in batch.members:
            arrived_at = ticket.arrived_at
            self.traffic.calls.append((arrived_at, now - arrived_at, batch.sent_at - arrived_at))
            if self.thinks_s is not None:
                self.clock.call_at(now + self.chance.uniform(0.0, self.thinks_s), self.ask)
        self.pump("slot_free")


def simulate(policy: BatchPolicy, backend: Backend, rate: float, seconds: float, seed: int = 1) -> Traffic:
    """`rate` calls a second, of one item each, for that many seconds."""
    world = _World(policy, backend, seed)
    world.clock.call_at(world.chance.expovariate(rate), lambda: world.arrive(rate, seconds))
    world.clock.advance_to(seconds + 60)
    return world.traffic


def simulate_crowd(
    policy: BatchPolicy,
    backend: Backend,
    callers: int,
    seconds: float,
    thinks_s: float = 0.002,
    seed: int = 1,
) -> Traffic:
    """So many callers who ask again within `thinks_s` of each answer, for that many seconds."""
    world = _World(policy, backend, seed)
    world.thinks_s = thinks_s
    for _ in range(callers):
        world.clock.call_at(world.chance.uniform(0.0, thinks_s), world.ask)
    world.clock.advance_to(seconds)
    return world.traffic
