"""Who is loaded because somebody waits, and who goes for it.

Theory of operation
-------------------
Models are loaded in the order of the demand queue, evicting what must go. Bytes promised to a model that
waits for an unload are not given to the next; a model that has aged is not overtaken by one behind it.

Where nothing idle can go, the least valuable busy models are drained, once the oldest ticket has waited for
twice its load time or half of its own time, whichever is less: their new requests wait, those in flight
finish, and then they go. If the demand vanishes first they are reopened. While models push each other out
(`Residency.is_thrashing`), even an idle model keeps its place until it has been ready for twice the other's
load time or the other has waited that long, so that A B A A C is served as A A A B C.

A running load that nobody waits for any more is stopped when another model is waited for, unless it is
nearly done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.loading.actions import Action, Refuse, Release
from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from proxy.loading.plan_state import PlanState
    from proxy.loading.queue import Ticket
    from proxy.loading.residency import Room

__all__ = ("DemandScheduler",)


@dataclass(slots=True)
class DemandScheduler:
    """Decisions for the models that are waited for."""

    state: PlanState
    _draining: set[Slot] = field(default_factory=set)

    def serve(self, now: float, actions: list[Action]) -> None:
        """Start loads and unloads for whoever waits."""
        self.state.is_blocked = False
        if not self.state.queue and not self._draining:
            return
        spoken = 0.0
        drained: set[Slot] = set()
        for model in self.state.queue.order(now, self.state.seconds):
            slot = self.state.residency.slots[model]
            if not self.state.wants_load(slot, now):
                continue
            oldest = self.state.queue.oldest(model)
            room = self.room(slot, oldest.arrived, now, spoken)
            if room.fits and self.state.has_loader():
                self.state.load(slot, "demand", now, f"{self.state.queue.waiting(model)} waiting", actions)
            elif not room.fits and not room.why:
                spoken += slot.cost.size
                for victim in room.victims:
                    self.state.unload(victim, now, f"makes room for {model}", actions)
            elif not room.fits:
                self.state.is_blocked = True
                drained |= self._drain_for(slot, oldest, now)
            if self.state.queue.is_aged(model, now) and slot.state is not State.LOADING:
                break
            self.state.wake(oldest.aged_at(), now)
        self._stop_draining(drained, now, actions)

    def stop_unwanted(self, now: float, actions: list[Action]) -> None:
        """Give up running loads that keep others waiting for nothing."""
        if not self.state.can_cancel or not self.state.queue or not self.state.residency.loading:
            return
        waited_for = [
            self.state.residency.slots[model] for model in self.state.queue.order(now, self.state.seconds)
        ]
        pending = [s for s in waited_for if self.state.wants_load(s, now)]
        if not pending:
            return
        for slot in list(self.state.residency.loading.values()):
            if slot.name in self.state.queue or slot.cause in {"foreign", "manual"}:
                continue
            left = self.state.remaining(slot, now)
            bar = pending[0].cost.seconds if slot.cause != "demand" else 0.5 * slot.cost.seconds
            if left > bar:
                self._put_off(slot.name)
                self.state.cancel(slot, now, f"nobody waits for it, {pending[0].name} does", actions)

    def _put_off(self, model: str) -> None:
        """What `model` was loaded for may still come: it is tried again when nobody waits."""
        forecast = self.state.ledger.withdraw(model)
        if forecast is None:
            return
        if forecast.cause == "boot":
            self.state.boot.appendleft(forecast)
        else:
            self.state.forecasts[model] = forecast

    def room(self, slot: Slot, waiting_since: float, now: float, spoken: float) -> Room:
        """How `slot` can be made to fit for somebody who has waited since `waiting_since`."""
        patience = 2 * slot.cost.seconds
        is_patient = now - waiting_since < patience
        is_thrashing = is_patient and self.state.residency.is_thrashing

        def may_go(victim: Slot) -> bool:
            if not self.state.residency.may_go(victim, now) or not self.state.is_idle(victim):
                return False
            is_kept = is_thrashing or (is_patient and victim.is_theirs)
            return victim.is_draining or not is_kept or now - victim.changed_at >= patience

        def unexpected(victim: Slot) -> bool:
            return may_go(victim) and not self.state.ahead.is_expected(victim.name, now)

        room = self.state.residency.room(slot, unexpected, now, spoken)
        if room.why:
            room = self.state.residency.room(slot, may_go, now, spoken)
        if room.why and is_patient:
            self.state.wake(waiting_since + patience, now)
        return room

    def eta(self, model: str, now: float) -> float:
        """Seconds until `model` is ready, were it waited for from now on."""
        slot = self.state.residency.slots[model]
        if slot.state is State.LOADING:
            return self.state.remaining(slot, now)
        running = self.state.residency.loading.values()
        busy = min((self.state.remaining(s, now) for s in running), default=0.0)
        ahead = sum(self.state.residency.slots[name].cost.seconds for name in self._before(slot, now))
        busy = (
            busy if len(running) >= self.state.policy.concurrency else 0.0
        ) + ahead / self.state.policy.concurrency
        return max(busy, slot.retry_at - now) + slot.cost.promise_s

    def refusal(self, ticket: Ticket, now: float) -> Refuse | None:
        """Why the request of `ticket`, whose model is not ready, must not wait from `now` on."""
        state, model = self.state, ticket.model
        slot = state.residency.slots[model]
        eta = self.eta(model, now)
        if why := state.residency.impossible(slot):
            return Refuse(ticket, "no_room", eta, why)
        if state.queue.waiting(model) >= state.policy.cold.queue:
            return Refuse(ticket, "full", eta, f"{state.policy.cold.queue} already wait")
        if slot.is_given_up and slot.retry_at > now:
            return Refuse(ticket, "failed", slot.retry_at - now, slot.detail)
        is_closed = slot.state is State.READY
        if not is_closed and now + eta > ticket.deadline and self._is_sure(slot, now):
            return Refuse(ticket, "loading", eta, slot.detail)
        return None

    def _drain_for(self, slot: Slot, oldest: Ticket, now: float) -> set[Slot]:
        """Close the least valuable busy models to new requests, once `oldest` has waited for long enough."""
        patience = min(2 * slot.cost.seconds, 0.5 * (oldest.deadline - oldest.arrived))
        if now < oldest.arrived + patience:
            self.state.wake(oldest.arrived + patience, now)
            return set()
        room = self.state.residency.room(slot, lambda s: self.state.residency.may_go(s, now), now)
        if room.victims:
            self.state.queue.hasten(slot.name)
        for victim in room.victims:
            if not victim.is_draining:
                victim.is_draining = True
                self.state.ledger.note(
                    now, victim.name, "drain", f"{slot.name} has waited for {now - oldest.arrived:.1f} s"
                )
        return set(room.victims)

    def _stop_draining(self, drained: set[Slot], now: float, actions: list[Action]) -> None:
        before, self._draining = self._draining, drained
        for slot in sorted(before - drained, key=lambda s: s.name):
            if slot.is_draining and slot.state is State.READY:
                slot.is_draining = False
                self.state.ledger.note(now, slot.name, "reopen", "nobody waits for its memory any more")
                actions += [Release(ticket) for ticket in self.state.queue.take(slot.name)]

    def _before(self, slot: Slot, now: float) -> list[str]:
        """Models whose load would start before that of `slot`."""
        order = [
            m
            for m in self.state.queue.order(now, self.state.seconds)
            if self.state.residency.slots[m].state is not State.LOADING
        ]
        if slot.name in order:
            return order[: order.index(slot.name)]
        score = slot.policy.priority / max(slot.cost.seconds, 1e-3)
        return [m for m in order if self.state.queue.is_aged(m, now) or self._score(m) >= score]

    def _is_sure(self, slot: Slot, now: float) -> bool:
        """Whether the expected span is more than a guess: what was never loaded may be there in a moment."""
        ahead = (self.state.residency.slots[name] for name in self._before(slot, now))
        involved = (slot, *self.state.residency.loading.values(), *ahead)
        return not any(each.cost.is_guess for each in involved)

    def _score(self, model: str) -> float:
        slot = self.state.residency.slots[model]
        return self.state.queue.waiting(model) * slot.policy.priority / max(slot.cost.seconds, 1e-3)
