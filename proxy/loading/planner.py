"""The loading policy as one object: events in, effects out. Production and simulation run this same code.

Theory of operation
-------------------
A request is three events: `observe` when it is routed, `wait` only if its model is not ready, `finished`
when it ends. (The request path, which has the model's slot in hand, counts there and calls `begun` and
`ended`.) What the backend tells goes to `backend`, what the operator asks to `order`, `evict` and
`pin`. Whoever drives the planner calls `decide` when an event says that it may change something, and again
at `wakeup`; it carries the effects out and reports back. No event waits, none fails, and the same events at
the same instants give the same effects.

All instants are seconds since the epoch. A clock that steps back delays what was planned, and never makes a
span negative; one that leaps forward makes everything due once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.actions import Action, Prospect, Refuse
from proxy.loading.backend import Backend
from proxy.loading.demand import DemandScheduler
from proxy.loading.eviction import HitDensity
from proxy.loading.governor import Governor
from proxy.loading.ledger import Ledger
from proxy.loading.plan_state import PlanState
from proxy.loading.predictor import Foresight
from proxy.loading.queue import DemandQueue, Ticket
from proxy.loading.residency import Residency
from proxy.loading.scheduling import Scheduler
from proxy.loading.slot import State
from proxy.loading.speculation import Speculator

if TYPE_CHECKING:
    from proxy.loading.eviction import Eviction
    from proxy.loading.history import History
    from proxy.loading.ledger import Decision
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.predictor import Anticipation
    from proxy.loading.slot import Slot

__all__ = ("Planner",)

_ORDER_LEAST_S = 60.0


class Planner:
    """All models of one backend; `backend` takes what it tells."""

    __slots__ = ("_demand", "_scheduler", "backend", "history", "policy", "state")

    def __init__(
        self,
        policy: LoadingPolicy,
        history: History,
        *,
        ahead: Anticipation | None = None,
        eviction: Eviction | None = None,
    ) -> None:
        self.policy = policy
        self.history = history
        self.state = PlanState(
            policy=policy,
            history=history,
            residency=Residency(policy, eviction or HitDensity(history)),
            queue=DemandQueue(),
            ahead=ahead or Foresight(history, policy.idle_unload, is_acted_on=policy.mode == "predictive"),
            governor=Governor(policy.max_share, policy.min_precision),
            ledger=Ledger(),
        )
        self._demand = DemandScheduler(self.state)
        self._scheduler = Scheduler(self.state, self._demand, Speculator(self.state, self._demand))
        self.backend = Backend(self.state)

    # ------------------------------------------------------------- requests
    def observe(self, model: str, now: float, session: str = "") -> bool:
        """A request for a managed model starts; True when `decide` should be called. O(1)."""
        slot = self.state.residency.slots.get(model)
        if slot is None or (slot.begins(now) and not session):
            return False
        return self.begun(slot, now, session)

    def begun(self, slot: Slot, now: float, session: str = "") -> bool:
        """Look at a start that `slot` has counted; True when `decide` should be called. O(1)."""
        state, past, model = self.state, slot.past, slot.name
        past.arrived(now, is_idle=slot.in_flight == 1, count=slot.uncounted)
        slot.uncounted = 0
        slot.counted_at = now
        slot.is_settled = False
        if session:
            self.history.follow(model, session, now)
        state.residency.eviction.touched(slot, past, now)
        if state.forecasts and (missed := state.forecasts.pop(model, None)) is not None:
            state.ledger.open(missed, now, slot.cost.seconds, "no room in time")
        if state.ledger.is_open(model):
            state.score(state.ledger.arrived(model, now, is_ready=slot.state is State.READY), now)
        triggered = state.ahead.arrived(model, now)
        for forecast in triggered:
            state.forecasts.setdefault(forecast.model, forecast)
        return bool(triggered)

    def finished(self, model: str, now: float, run_s: float = 0.0) -> bool:
        """A request that was observed ends after `run_s`; True when `decide` should be called. O(1)."""
        slot = self.state.residency.slots.get(model)
        if slot is None or (slot.ends(now) and not self.state.is_blocked):
            return False
        return self.ended(slot, now, run_s)

    def ended(self, slot: Slot, now: float, run_s: float) -> bool:
        """Look at an end that `slot` has counted; True when `decide` should be called. O(1)."""
        slot.ended_at = now
        slot.is_settled = slot.in_flight == 0
        self.history.ended(slot.name, now, run_s)
        if slot.answers:
            if not self.state.residency.has_loaded_since(slot.answers_from):
                self.state.governor.served(slot.name, slot.answers_s / slot.answers, slot.answers)
            slot.answers, slot.answers_s = 0, 0.0
        if slot.is_settled:
            self.state.ahead.ended(slot.name, now)
        return slot.is_draining or self.state.is_blocked

    def is_ready(self, model: str) -> bool:
        """Whether a request for `model` need not wait: it is ready, or unknown, or we only observe."""
        slot = self.state.residency.slots.get(model)
        return slot is None or self.is_open(slot)

    def is_open(self, slot: Slot) -> bool:
        """The same for a managed model."""
        if slot.state is State.UNKNOWN or not self.state.acts:
            return True
        return slot.state is State.READY and not slot.is_draining

    def wait(self, model: str, now: float, deadline: float) -> Ticket | Refuse:
        """A request for a managed model that is not ready wants to wait.

        Refused when the room is full, when the model can never fit, or when it cannot be ready by the
        deadline; in the last case it is loaded all the same, for whoever comes next.
        """
        state = self.state
        ticket = self._ticket(model, now, deadline)
        refusal = self._demand.refusal(ticket, now)
        if refusal is not None:
            slot = state.residency.slots[model]
            if refusal.reason == "loading" and slot.state is not State.LOADING:
                lapses = now + max(_ORDER_LEAST_S, 2 * slot.cost.seconds)
                state.orders.setdefault(model, ("demand", lapses))
            return self._refuse(refusal, now)
        state.queue.add(ticket)
        return ticket

    def prospect(self, model: str, now: float, deadline: float) -> Prospect | None:
        """What a request for `model` would meet; None when it is not managed. Changes nothing."""
        slot = self.state.residency.slots.get(model)
        if slot is None:
            return None
        if self.is_ready(model):
            return Prospect(slot.state.value, waits=False)
        refusal = self._demand.refusal(self._ticket(model, now, deadline), now)
        return Prospect(slot.state.value, refusal is None, self._demand.eta(model, now), refusal)

    def leave(self, ticket: Ticket) -> bool:
        """A waiting request gives up; True when `decide` should be called."""
        return self.state.queue.remove(ticket)

    def missing(self) -> list[str]:
        """Configured models that are still to be loaded; one that failed is not waited for."""
        slots = self.state.residency.slots
        settled = {name for name, slot in slots.items() if slot.state in {State.READY, State.FAILED}}
        return [name for name in self.policy.preload if name not in settled] if self.state.acts else []

    # ------------------------------------------------------------- the operator
    def order(self, model: str, now: float) -> None:
        """Load `model` because someone asked for it; clears earlier failures."""
        slot = self.state.manage(model, now)
        slot.forgive(now)
        if slot.state in {State.FAILED, State.UNKNOWN}:
            self.state.residency.move(slot, State.UNLOADED, now)
        self.state.orders[model] = ("manual", now + max(_ORDER_LEAST_S, slot.cost.timeout_s))

    def evict(self, model: str, now: float) -> str:
        """Unload `model` because someone asked for it; why not, or empty."""
        slot = self.state.residency.slots.get(model)
        if slot is None or slot.state is not State.READY:
            return "not loaded"
        if not self.state.residency.can_unload:
            return "this backend cannot unload"
        if slot.in_flight:
            return f"{slot.in_flight} requests in flight"
        self.state.unload(slot, now, "asked for", self.state.settled)
        return ""

    def pin(self, model: str, now: float, *, is_pinned: bool = True) -> None:
        """Never evict `model`, or no longer never."""
        self.state.manage(model, now).is_pinned = is_pinned
        self.state.ledger.note(now, model, "pin" if is_pinned else "unpin", "asked for")

    # ------------------------------------------------------------- decisions
    def decide(self, now: float) -> list[Action]:
        """Everything that should happen at `now`."""
        settled, self.state.settled = self.state.settled, []
        return settled + self._scheduler.decide(now)

    def wakeup(self) -> float:
        """When to call `decide` although nothing happened; `inf` for never."""
        return self._scheduler.wakeup()

    def hint_at(self) -> float:
        """When the predictor next has something to look at: all that `finished` can bring forward."""
        return self.state.ahead.next_at()

    def why(self, model: str) -> list[Decision]:
        """Decisions about `model`, newest first."""
        return self.state.ledger.why(model)

    # ------------------------------------------------------------- internals
    def _ticket(self, model: str, now: float, deadline: float) -> Ticket:
        latest = min(deadline, now + self.policy.cold.max_wait)
        return Ticket(model, now, latest, self.state.residency.slots[model].policy.priority)

    def _refuse(self, refusal: Refuse, now: float) -> Refuse:
        why = f"{refusal.reason}, ready in {refusal.retry_after_s:.1f} s"
        self.state.ledger.note(now, refusal.ticket.model, "refuse", why)
        return refusal
