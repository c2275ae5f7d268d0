"""What all decisions are made from, and the few effects that change it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from proxy.loading.actions import Action, Cancel, Load, Release, Unload
from proxy.loading.policy import ModelLoadPolicy
from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from proxy.loading.actions import FailureKind
    from proxy.loading.governor import Governor
    from proxy.loading.history import History
    from proxy.loading.ledger import Ledger, Prediction
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.predictor import Anticipation, Cause, Forecast
    from proxy.loading.queue import DemandQueue
    from proxy.loading.residency import Residency

__all__ = ("PlanState",)

_UNDECLARED = ModelLoadPolicy()  # one for all: a model has no memory to waste
_BACKOFF_MOST_S = 60.0
_STRIKES = 3
_FAILED_S, _FAILED_WANTED_S = 900.0, 450.0


@dataclass(slots=True)
class PlanState:
    """The parts that the planner's events feed and its decisions read."""

    policy: LoadingPolicy
    history: History
    residency: Residency
    queue: DemandQueue
    ahead: Anticipation
    governor: Governor
    ledger: Ledger
    can_cancel: bool = True
    orders: dict[str, tuple[Cause, float]] = field(default_factory=dict)
    """Loads wanted although nobody waits, with their cause and the instant at which they lapse."""
    boot: deque[Forecast] = field(default_factory=deque)
    """What belongs in memory after a (re)start and is not there yet."""
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    """Forecasts that are due and not yet decided upon."""
    is_blocked: bool = False
    """Whether somebody waits for memory that only the end of a request can free."""
    wake_at: float = inf
    """The next instant at which time alone changes a decision."""
    settled: list[Action] = field(default_factory=list)
    """Answers for those who waited, decided by events, which the next `decide` hands out."""

    @property
    def acts(self) -> bool:
        """Whether decisions are carried out at all."""
        return self.policy.mode in {"demand", "predictive"}

    def manage(self, model: str, now: float) -> Slot:
        """The slot of `model`, made when there is none: from now on the model is managed."""
        slots = self.residency.slots
        slot = slots.get(model)
        if slot is None:
            policy = self.policy.models.get(model, _UNDECLARED)
            past = self.history.of(model, now)
            past.cost.declare(policy.load_time, policy.size)
            slot = slots[model] = Slot(model, policy, past, is_pinned=policy.pin)
        return slot

    def slot(self, model: str) -> Slot:
        """The slot of a managed model."""
        return self.residency.slots[model]

    def seconds(self, model: str) -> float:
        """Expected span of one load of `model`."""
        return self.residency.slots[model].cost.seconds

    def is_idle(self, slot: Slot) -> bool:
        """Whether the backend works on no request of the model; those that wait here do not count."""
        return slot.in_flight <= self.queue.waiting(slot.name)

    def has_loader(self) -> bool:
        """Whether one more load may run."""
        return len(self.residency.loading) < self.policy.concurrency

    def wants_load(self, slot: Slot, now: float) -> bool:
        """Whether a load of the model could start, given room; one in back-off is looked at again in time."""
        if slot.retry_at > now:
            self.wake(slot.retry_at, now)
            return False
        return slot.state in {State.UNLOADED, State.FAILED}

    def has_order(self, now: float) -> bool:
        """Whether an order could be carried out, given room."""
        return any(self.wants_load(self.slot(model), now) for model in self.orders)

    def wake(self, at: float, now: float) -> None:
        """Decide again at `at`, if that lies ahead."""
        if at > now:
            self.wake_at = min(self.wake_at, at)

    def remaining(self, slot: Slot, now: float) -> float:
        """Seconds until a running load ends; one that is overdue is given a tenth of what it has had."""
        elapsed = max(0.0, now - slot.changed_at)
        return max(slot.cost.promise_s - elapsed, 0.1 * elapsed, 0.05)

    # ------------------------------------------------------------- effects
    def load(self, slot: Slot, cause: Cause, now: float, why: str, actions: list[Action]) -> None:
        """Start loading; memory is reserved from now on."""
        slot.cause = cause
        slot.is_theirs = False
        self.orders.pop(slot.name, None)
        self.forecasts.pop(slot.name, None)
        self.residency.move(slot, State.LOADING, now)
        self.ledger.note(now, slot.name, "load", f"{cause}: {why}")
        actions.append(Load(slot.name, cause, why))

    def strike(self, slot: Slot, kind: FailureKind, now: float) -> float:
        """One more load of the model failed: for how long it is left alone, in seconds.

        A configured one is tried again then, whether or not somebody asks for it.
        """
        slot.failures += 1
        slot.is_given_up = kind == "missing" or (kind != "unreachable" and slot.failures >= _STRIKES)
        pause_s = min(_BACKOFF_MOST_S, 2.0 ** (slot.failures - 1))
        if slot.is_given_up:
            pause_s = _FAILED_WANTED_S if slot.name in self.queue else _FAILED_S
        slot.retry_at = now + pause_s
        if slot.name in self.policy.preload:
            self.orders[slot.name] = ("preload", inf)
        return pause_s

    def became_ready(self, slot: Slot, now: float, size: int) -> None:
        """The model is loaded, with `size` bytes if that is known: whoever waited may go on."""
        slot.forgive(now)
        self.residency.move(slot, State.READY, now)
        if size:
            slot.cost.reported(size)
            self.residency.resize(slot)
        self.settled += [Release(ticket) for ticket in self.queue.take(slot.name)]
        if slot.in_flight == 0:
            self.residency.eviction.touched(slot, slot.past, now)
            self.ahead.ended(slot.name, now)

    def unload(self, slot: Slot, now: float, why: str, actions: list[Action]) -> None:
        """Start unloading; memory is given back when it is confirmed."""
        self.score(self.ledger.gone(slot.name), now)
        self.residency.eviction.evicted(slot, now)
        slot.unloads += 1
        slot.is_cancelled = False
        self.residency.move(slot, State.UNLOADING, now)
        self.ledger.note(now, slot.name, "unload", why)
        actions.append(Unload(slot.name, why))

    def cancel(self, slot: Slot, now: float, why: str, actions: list[Action]) -> None:
        """Give a running load up; its memory counts until the backend has confirmed that it is gone."""
        self.score(self.ledger.gone(slot.name), now)
        slot.is_cancelled = True
        self.residency.move(slot, State.UNLOADING, now)
        self.ledger.note(now, slot.name, "cancel", why)
        actions.append(Cancel(slot.name, why))

    def score(self, prediction: Prediction | None, now: float) -> None:
        """Let the governor learn from a settled prediction."""
        if prediction is None or prediction.outcome in {None, "suppressed"}:
            return
        cause = prediction.forecast.cause
        if cause != "boot":  # bounded by free memory already, and not to be judged by one bad restart
            key = (prediction.forecast.model, cause)
            self.governor.settled(key, now, is_hit=prediction.came_true, load_s=prediction.load_s)
