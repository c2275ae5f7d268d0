"""Our states against the backend's own listing: what others loaded or unloaded, and restarts.

Theory of operation
-------------------
What changed on our side since a listing was asked for (`mark`) is younger than it and is left alone, and
so are loads and unloads of ours that are under way. A model that was ready and is gone was unloaded by
someone else, and is not fought for. All ready models gone at once, two at least, is a restart: the configured
ones are loaded again, and what was most valuable, in free memory. Fewer will do after the backend was silent.
The first listing counts as one.

Someone else may be a second proxy. What it has loaded while we watched it has loaded for requests that we
do not see (`Slot.is_theirs`), so that to us such a model looks idle from the start. It is therefore not
unloaded for idleness or a guess, not evicted in the first moments, and not looked at to tell a restart,
unless there is nothing else: the other one may have been quicker to load it again.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from proxy.loading.actions import Report
from proxy.loading.predictor import Forecast
from proxy.loading.slot import State

if TYPE_CHECKING:
    from proxy.loading.plan_state import PlanState
    from proxy.loading.slot import Slot

__all__ = ("Reconciler",)

_LEAST_RESTART = 2  # one model alone that is gone may as well have been unloaded by someone else
_BOOT_SPAN_S = 900.0


class Reconciler:
    """Takes listings over into the `state`."""

    __slots__ = ("_is_listed", "state")

    def __init__(self, state: PlanState) -> None:
        self.state = state
        self._is_listed = False

    def reconcile(
        self, listing: dict[str, Report], mark: int, now: float, *, after_silence: bool = False
    ) -> bool:
        """Take over what the backend listed after `mark`; True when the backend has restarted."""
        slots = self.state.residency.slots
        ready = [s for s in slots.values() if s.state is State.READY and s.change <= mark]
        ours = [s for s in ready if not s.is_theirs] or ready
        lost = [s for s in ours if listing.get(s.name, Report("unknown")).state not in {"ready", "loading"}]
        is_enough = len(ours) >= _LEAST_RESTART
        if after_silence and not is_enough:
            is_enough = bool(ours) or not any(report.state == "ready" for report in listing.values())
        is_restart = self._is_listed and is_enough and len(lost) == len(ours)
        for slot in slots.values():
            if slot.change <= mark:
                self._adopt(slot, listing.get(slot.name, Report("unknown")), now)
        if is_restart or not self._is_listed:
            self._is_listed = True
            self._plan_boot(now)
        return is_restart

    def lose(self, slot: Slot, now: float, why: str) -> None:
        """`slot` was ready, and is not any more."""
        self.state.score(self.state.ledger.gone(slot.name), now)
        slot.cause = "demand"
        self.state.residency.move(slot, State.UNLOADED, now)
        self.state.ledger.note(now, slot.name, "lost", why)

    def _adopt(self, slot: Slot, report: Report, now: float) -> None:
        match report.state:
            case _ if slot.state is State.UNLOADING or (
                slot.state is State.LOADING and slot.cause != "foreign"
            ):
                pass  # ours, and not over yet
            case "ready" if slot.state is not State.READY:
                slot.cause = "foreign"
                slot.is_theirs = self._is_listed and not slot.is_in_doubt
                self.state.became_ready(slot, now, report.size)
            case "ready" if report.size:
                slot.cost.reported(report.size)
                self.state.residency.resize(slot)
            case "loading" if slot.state not in {State.LOADING, State.READY}:
                slot.cause = "foreign"
                self.state.residency.move(slot, State.LOADING, now)
            case "unloaded" | "failed" | "unknown" if slot.is_resident:
                self.lose(slot, now, "someone else unloaded it")
            case "unloaded" | "failed" if slot.state is State.UNKNOWN:
                self.state.residency.move(slot, State.UNLOADED, now)

    def _plan_boot(self, now: float) -> None:
        """What belongs in memory: the configured models, then by value density while memory lasts."""
        for slot in self.state.residency.slots.values():
            if slot.in_flight == 0 and self.state.history.of(slot.name, now).is_used:
                self.state.ahead.ended(slot.name, now)  # a rhythm goes on, whoever was restarted
        boot = self.state.boot
        boot.clear()
        if not self.state.acts:
            return
        for model in self.state.policy.preload:
            slot = self.state.slot(model)
            if slot.state is State.UNKNOWN:
                self.state.residency.move(slot, State.UNLOADED, now)
            self.state.orders[model] = ("preload", inf)
        if self.state.policy.mode != "predictive":
            return
        slots = [s for s in self.state.residency.slots.values() if s.name not in self.state.policy.preload]
        rank = self.state.residency.eviction.rank
        for slot in sorted(slots, key=lambda s: (-rank(s, now), s.name)):
            if self.state.history.of(slot.name, now).is_used and slot.state is not State.READY:
                probability = min(1.0, self.state.history.of(slot.name, now).rate(now) * _BOOT_SPAN_S)
                boot.append(Forecast(slot.name, "boot", now, now, probability))
