"""One pass over everything that may have to happen now.

Theory of operation
-------------------
`Scheduler.decide` looks at the whole state and returns effects. It may be called at any time, as often as
one likes; calling it twice at one instant changes nothing the second time. In this order it refuses tickets
whose deadline has come, settles predictions whose time has passed, stops loads that hang, takes hints of
idleness, serves demand, gives up loads that nobody wants, and then, only while nobody waits, serves orders,
boot and forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from proxy.loading.actions import Action, Refuse
from proxy.loading.slot import State

if TYPE_CHECKING:
    from proxy.loading.demand import DemandScheduler
    from proxy.loading.plan_state import PlanState
    from proxy.loading.speculation import Speculator

__all__ = ("Scheduler",)


@dataclass(slots=True)
class Scheduler:
    """The order of decisions."""

    state: PlanState
    demand: DemandScheduler
    speculator: Speculator

    def decide(self, now: float) -> list[Action]:
        """Everything that should happen at `now`."""
        state, demand, speculator = self.state, self.demand, self.speculator
        state.wake_at = inf
        late = state.queue.expired(now)
        actions: list[Action] = [Refuse(ticket, "deadline", demand.eta(ticket.model, now)) for ticket in late]
        if state.ledger.has_open:
            speculator.settle_expired(now, actions)
        if state.residency.loading:
            self._stop_hung(now, actions)
        speculator.take_hints(now, actions)
        if state.acts:
            demand.serve(now, actions)
            demand.stop_unwanted(now, actions)
            if state.orders:
                speculator.serve_orders(now, actions)
            if state.boot:
                speculator.serve_boot(now, actions)
        if state.forecasts:
            speculator.serve_forecasts(now, actions)
        return actions

    def wakeup(self) -> float:
        """The instant at which `decide` should be called again although nothing happened; `inf` for never."""
        state = self.state
        at = min(state.wake_at, state.ahead.next_at())
        at = min(at, state.queue.next_deadline(), state.ledger.next_expiry())
        for slot in state.residency.loading.values():
            at = min(at, slot.changed_at + slot.cost.timeout_s)
        return at

    def _stop_hung(self, now: float, actions: list[Action]) -> None:
        for slot in list(self.state.residency.loading.values()):
            if now >= slot.changed_at + slot.cost.timeout_s:
                why = f"no answer for {slot.cost.timeout_s:.0f} s"
                if slot.cause == "foreign":  # not ours to stop
                    self.state.residency.move(slot, State.UNLOADED, now)
                    continue
                slot.detail = why
                pause_s = self.state.strike(slot, "timeout", now)
                waiting = self.state.queue.take(slot.name)
                actions += [Refuse(ticket, "failed", pause_s, why) for ticket in waiting]
                self.state.cancel(slot, now, why, actions)
