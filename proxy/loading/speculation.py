"""What is loaded although nobody waits: orders, what belongs in memory after a restart, and forecasts.

Theory of operation
-------------------
All of this runs only while nobody waits. An operator's order may evict like demand. After a (re)start of
the proxy or the backend, the configured models come first and then the most valuable ones, while free
memory lasts. Forecasts come last: one load at a time, into free memory beyond a reserve for demand.

A forecast evicts only if the operator allows it, and then only a periodic or successor forecast of at least
0.6 whose place is worth more than its victims' together, in the measure by which victims are chosen (see
`eviction`): seconds of load that keeping the place saves, for each second that it is kept. The candidate
saves its load time, with the forecast's probability, and occupies memory from now until the middle of its
window. On a day of public functions this takes a tenth off the cold starts and a quarter off the waiting
when memory is tight, without a useless load; rules that evict by the rate of requests cost more than they
saved.

Every forecast ends in the ledger, the ones not acted upon with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from proxy.loading.predictor import Forecast, IdleHint
from proxy.loading.residency import Room
from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from proxy.loading.actions import Action
    from proxy.loading.demand import DemandScheduler
    from proxy.loading.plan_state import PlanState

__all__ = ("Speculator", "benefit")

_SEASONAL_EVERY_S = 600.0  # the rhythm is known by the hour
_LEAST_PROBABILITY = 0.3
_EVICT_PROBABILITY = 0.6
_GIB = 1 << 30
_MISS_COST = 0.3
_MOST_CAUGHT = 5.0
_UNUSED_BOOT_S = 3600.0


def benefit(probability: float, rate: float, load_s: float) -> float:
    """Seconds of waiting that a speculative load should save, less its cost; comparable across models."""
    caught = min(_MOST_CAUGHT, 1 + rate * load_s)
    return probability * caught * load_s - (1 - probability) * _MISS_COST * load_s


@dataclass(slots=True)
class Speculator:
    """Decisions for the models that nobody waits for."""

    state: PlanState
    demand: DemandScheduler
    _seasonal_at: float = -inf

    def settle_expired(self, now: float, actions: list[Action]) -> None:
        """Score the predictions whose time has passed; with idle unloading, what they loaded goes."""
        for prediction in self.state.ledger.expired(now):
            self.state.score(prediction, now)
            slot = self.state.residency.slots[prediction.forecast.model]
            unused = prediction.outcome == "wasted" and slot.state is State.READY
            if unused and self.state.policy.idle_unload != "off" and self.state.is_idle(slot):
                self.state.unload(slot, now, "predicted, but nobody came", actions)

    def take_hints(self, now: float, actions: list[Action]) -> None:
        """Collect the forecasts that are due, and let idle models go."""
        for hint in self.state.ahead.advance(now):
            if isinstance(hint, Forecast):
                self.state.forecasts[hint.model] = hint
            else:
                self._take_idle(hint, now, actions)
        if now >= self._seasonal_at + _SEASONAL_EVERY_S:
            self._seasonal_at = now
            away = [s.name for s in self.state.residency.slots.values() if s.state is State.UNLOADED]
            for forecast in self.state.ahead.seasonal(away, now):
                self.state.forecasts.setdefault(forecast.model, forecast)

    def _take_idle(self, hint: IdleHint, now: float, actions: list[Action]) -> None:
        slot = self.state.residency.slots.get(hint.model)
        if slot is None or slot.state is not State.READY or not self.state.acts:
            return
        is_needed = slot.is_theirs or not self.state.is_idle(slot) or self.state.ledger.is_open(slot.name)
        if self.state.residency.may_go(slot, now) and not is_needed:
            self.state.unload(slot, now, hint.why, actions)

    def serve_orders(self, now: float, actions: list[Action]) -> None:
        """Load what the operator, or a request that could not wait, asked for."""
        for model, (cause, lapses) in list(self.state.orders.items()):
            slot = self.state.residency.slots[model]
            if lapses <= now or slot.state is State.READY:
                del self.state.orders[model]
            elif self.state.wants_load(slot, now) and not self.state.queue and self.state.has_loader():
                room = self.demand.room(slot, now, now, 0.0)
                if room.fits:
                    self.state.load(slot, cause, now, "asked for", actions)
                for victim in room.victims:
                    self.state.unload(victim, now, f"makes room for {model}", actions)

    def serve_boot(self, now: float, actions: list[Action]) -> None:
        """Load what belongs in memory after a (re)start, while free memory lasts."""
        state = self.state
        while state.boot and not state.queue and not state.has_order(now) and state.has_loader():
            forecast = self.state.boot.popleft()
            slot = self.state.residency.slots[forecast.model]
            if not self.state.wants_load(slot, now) or not self.state.residency.fits(slot):
                continue
            self.state.ledger.open(forecast._replace(until=now + _UNUSED_BOOT_S), now, slot.cost.seconds)
            self.state.load(slot, forecast.cause, now, "worth its place when it was last seen", actions)

    def serve_forecasts(self, now: float, actions: list[Action]) -> None:
        """Act on the forecasts that are due, the most beneficial first, or say why not."""
        ranked = sorted(self.state.forecasts.values(), key=lambda f: (-self._priority(f, now), f.model))
        for forecast in ranked:
            slot = self.state.residency.slots.get(forecast.model)
            if slot is None or _is_pointless(slot, forecast, now):
                del self.state.forecasts[forecast.model]
                continue
            if slot.state is State.UNLOADING:
                continue  # it gave way to somebody, and is tried again
            refusal = self._refusal(slot, forecast, now)
            if not refusal and not self._is_busy(now):
                refusal = self._speculate(slot, forecast, now, actions)
                if refusal and now < forecast.at:  # it may pass in time
                    self.state.wake(forecast.at, now)
                    continue
            if refusal:
                del self.state.forecasts[forecast.model]
                self.state.ledger.open(forecast, now, slot.cost.seconds, refusal)
                self.state.ledger.note(
                    now, forecast.model, "suppress", f"{forecast.cause} forecast: {refusal}"
                )

    def _refusal(self, slot: Slot, forecast: Forecast, now: float) -> str:
        """Why not to act on `forecast` at all; empty when that is a matter of the moment."""
        if self.state.policy.mode != "predictive":
            return f"mode {self.state.policy.mode}"
        if forecast.probability < _LEAST_PROBABILITY:
            return f"probability {forecast.probability:.2f}"
        return self.state.governor.bar(slot.name, forecast.cause, now)

    def _is_busy(self, now: float) -> bool:
        """Whether something goes before forecasts; they are looked at again when it is done."""
        state = self.state
        if state.queue or state.boot or state.has_order(now) or not state.has_loader():
            return True
        return any(s.cause not in {"demand", "manual", "foreign"} for s in state.residency.loading.values())

    def _speculate(self, slot: Slot, forecast: Forecast, now: float, actions: list[Action]) -> str:
        """Load, or make room for that; why not now, or empty."""
        if strain := self.state.governor.strain(now):
            return strain
        if not self.state.residency.fits(slot, self.state.residency.reserve()):
            if not self.state.policy.may_evict:
                return "no free memory"
            room = self._room_for_guess(slot, forecast, now)
            for victim in room.victims:
                self.state.unload(victim, now, f"makes room for {slot.name}, expected", actions)
            if not room.fits:
                return room.why
        self.state.ledger.open(forecast, now, slot.cost.seconds)
        self.state.governor.began(slot.cost.seconds, now)
        why = f"{forecast.cause} forecast, p {forecast.probability:.2f}, due in {forecast.at - now:.1f} s"
        self.state.load(slot, forecast.cause, now, why, actions)
        return ""

    def _room_for_guess(self, slot: Slot, forecast: Forecast, now: float) -> Room:
        def may_go(victim: Slot) -> bool:
            is_needed = victim.is_theirs or not self.state.is_idle(victim)
            is_wanted = self.state.ahead.is_expected(victim.name, now) or self.state.ledger.is_open(
                victim.name
            )
            return self.state.residency.may_go(victim, now) and not is_needed and not is_wanted

        if forecast.cause == "seasonal" or forecast.probability < _EVICT_PROBABILITY:
            return Room(fits=False, why="too unsure to evict")
        room = self.state.residency.room(slot, may_go, now)
        rank = self.state.residency.eviction.rank
        lost = sum(rank(victim, now) * victim.held / _GIB for victim in room.victims)
        saved = forecast.probability * slot.cost.seconds / max(slot.cost.seconds, _middle(forecast) - now)
        return Room(fits=False, why="its victims are worth more") if saved < lost else room

    def _priority(self, forecast: Forecast, now: float) -> float:
        past = self.state.history.of(forecast.model, now)
        return benefit(forecast.probability, past.rate(now), past.cost.seconds) / max(past.cost.seconds, 1e-3)


def _middle(forecast: Forecast) -> float:
    return (forecast.at + forecast.until) / 2


def _is_pointless(slot: Slot, forecast: Forecast, now: float) -> bool:
    """Whether nothing will come of `forecast` any more."""
    is_away = slot.state is State.UNLOADED or slot.state is State.UNLOADING
    return not is_away or now > forecast.until or slot.retry_at > now
