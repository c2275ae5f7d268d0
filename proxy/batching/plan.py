"""What follows from one batching policy: rules for header fields, the former that it uses, bounds for lanes.

Theory of operation
-------------------
Policies are values that a reload replaces; a `Plan` is made when a policy is first seen and found again by
identity, because comparing policies for every call would cost more than the call's share of a batch.
Policies of one upstream that agree about `mode` and `inflight` share a `Former`, and with it the number of
batches in flight: the backend is one, whatever its models are called. In `adaptive` mode with ``inflight:
auto`` that number is learned.

Few policies exist at a time. Reloads leave old ones behind; when too many have gathered all are forgotten and
made again as needed. Lanes keep the plan they were made with until they are empty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.batching.cap import ItemCap
from proxy.batching.former import Former
from proxy.batching.inflight import InflightLimit
from proxy.batching.keys import HeaderRules
from proxy.batching.queueing import Bounds
from proxy.batching.verify import Sampler

if TYPE_CHECKING:
    from proxy.batching.policy import BatchPolicy

__all__ = ("Plan", "Plans", "Slots")

_MOST = 256


class Slots:
    """The batches in flight that some policies share; `learner` is None when the number is fixed."""

    __slots__ = ("former", "learner")

    def __init__(self, *, is_eager: bool, limit: float | None) -> None:
        self.learner = InflightLimit() if limit is None else None
        self.former = Former(
            is_eager=is_eager, limit=1 if limit is None else limit, lends=self.learner is not None
        )

    @property
    def work_rate(self) -> float:
        """Batches that the backend works on at once, as far as is known."""
        return self.former.limit if self.learner is None else self.learner.work_rate


class Plan:
    """One policy, worked out."""

    __slots__ = ("bounds", "former", "policy", "rules", "sampler", "slots")

    def __init__(self, policy: BatchPolicy, slots: Slots) -> None:
        self.policy = policy
        self.slots = slots
        self.former = slots.former
        self.rules = HeaderRules(policy.isolate, policy.ignore)
        self.bounds = Bounds(policy.max_bytes, policy.max_wait)
        self.sampler = Sampler(policy.verify)

    def new_cap(self) -> ItemCap:
        """The cap that a path begins with; in `window` mode it stays there."""
        items = self.policy.items
        if self.policy.mode == "window":
            return ItemCap(items.start, items.start, items.start)
        return ItemCap(items.start, items.least, items.most, self.policy.objective)


class Plans:
    """The plans of one upstream."""

    def __init__(self) -> None:
        self._plans: dict[int, Plan] = {}
        self._slots: dict[tuple[bool, object], Slots] = {}
        self._is_draining = False

    def of(self, policy: BatchPolicy) -> Plan:
        """The plan for `policy`."""
        return self._plans.get(id(policy)) or self._adopt(policy)

    @property
    def slots(self) -> list[Slots]:
        """All that were ever shared; few, since policies differ in little."""
        return list(self._slots.values())

    def drain(self) -> None:
        """From now on nothing waits for company."""
        self._is_draining = True
        for slots in self._slots.values():
            slots.former.drain()

    def _adopt(self, policy: BatchPolicy) -> Plan:
        if len(self._plans) >= _MOST:
            self._plans.clear()
        is_eager = policy.mode == "adaptive"
        key = (is_eager, policy.inflight)
        slots = self._slots.get(key)
        if slots is None:
            limit = policy.inflight if policy.inflight != "auto" else None if is_eager else math.inf
            slots = self._slots[key] = Slots(is_eager=is_eager, limit=limit)
            if self._is_draining:
                slots.former.drain()
        # The plan holds the policy, so its identity is not given to another.
        plan = self._plans[id(policy)] = Plan(policy, slots)
        return plan
