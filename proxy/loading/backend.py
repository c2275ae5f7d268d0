"""What the backend has told us: how loads and unloads ended, what it lists, what it answers to requests.

Theory of operation
-------------------
Each method is one event. It corrects the slots, answers whoever waited for what has just happened
(`PlanState.settled`, which the next `decide` hands out), and decides nothing further.

A load that failed holds no memory. Running out of memory is the size's fault: the waiting stay, the size is
raised, and one more model makes room; but only once in a row. A model that the backend does not know, or
that failed three times, is FAILED for a quarter of an hour, half of that while it is being asked for; else
the pause doubles from a second to a minute. That nobody could be reached says nothing about the model, nor
whether it is loaded: only the reply may have been lost. So the first time the waiting stay until the next
listing has told; they are refused when there is none either.

An unload that failed leaves the memory taken. If the backend refused, the model stays for good; if it kept
silent or could not be reached, it is asked again later."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.loading.actions import Failure, Refuse, Report
from proxy.loading.reconciler import Reconciler
from proxy.loading.slot import State

if TYPE_CHECKING:
    from proxy.loading.plan_state import PlanState
    from proxy.loading.slot import Slot

__all__ = ("Backend", "Findings")

_STUCK_S = 10.0


class Findings(NamedTuple):
    """What a listing brought to light."""

    has_restarted: bool
    renewed: tuple[str, ...]
    """Models that someone else has loaded since we last knew them not to be."""


class Backend:
    """The backend's side of the `state`."""

    __slots__ = ("_reconciler", "_state")

    def __init__(self, state: PlanState) -> None:
        self._state = state
        self._reconciler = Reconciler(state)

    def limit(self, *, can_unload: bool, can_cancel: bool) -> None:
        """What the backend is able to do, once that is known."""
        self._state.residency.can_unload = can_unload
        self._state.can_cancel = can_cancel

    def loaded(self, model: str, now: float, seconds: float, size: int = 0) -> None:
        """`model` is loaded and warm after `seconds`; `size` bytes if the backend tells."""
        slot = self._state.manage(model, now)
        slot.cost.measured(seconds)
        self._state.became_ready(slot, now, size)
        self._state.ledger.note(now, model, "ready", f"after {seconds:.2f} s")

    def load_failed(self, model: str, now: float, failure: Failure) -> None:
        """`model` could not be loaded, and holds no memory."""
        state = self._state
        slot = state.manage(model, now)
        slot.detail = failure.detail or failure.kind
        state.ledger.note(now, model, "failed", f"{failure.kind}: {slot.detail}")
        pause_s = state.strike(slot, failure.kind, now)
        if failure.kind == "unreachable" and slot.failures == 1:
            slot.cause = "foreign"
            slot.is_in_doubt = True
            return
        state.score(state.ledger.gone(model), now)
        state.residency.move(slot, _away(slot), now)
        if failure.kind == "memory":
            slot.cost.too_small()
            if slot.failures == 1:
                slot.retry_at = now
                return
        self._refuse_all(slot, pause_s)

    def silent(self, now: float) -> None:
        """The backend does not list its models either: what was in doubt has failed."""
        for slot in list(self._state.residency.loading.values()):
            if slot.is_in_doubt:
                self._reconciler.lose(slot, now, "nobody answers")
                self._refuse_all(slot, max(0.0, slot.retry_at - now))

    def _refuse_all(self, slot: Slot, after_s: float) -> None:
        tickets = self._state.queue.take(slot.name)
        self._state.settled += [Refuse(ticket, "failed", after_s, slot.detail) for ticket in tickets]

    def unloaded(self, model: str, now: float) -> None:
        """`model` holds no memory any more."""
        slot = self._state.manage(model, now)
        self._state.residency.move(slot, _away(slot), now)

    def unload_failed(self, model: str, now: float, detail: str, *, is_final: bool = True) -> None:
        """The backend would not unload `model`, which still holds its memory; if that is final, it stays."""
        slot = self._state.manage(model, now)
        slot.stuck_until = now + _STUCK_S
        if is_final:
            slot.policy = slot.policy.model_copy(update={"unload": "never"})
        if slot.is_cancelled:  # the backend may load it to the end: its listing will tell
            slot.cause = "foreign"
        self._state.residency.move(slot, State.LOADING if slot.is_cancelled else State.READY, now)
        self._state.ledger.note(now, model, "stuck", detail)

    def mark(self) -> int:
        """Taken before the backend is asked for a listing, tells `reconcile` what is younger than it."""
        return self._state.residency.changes

    def reconcile(
        self, listing: dict[str, Report], mark: int, now: float, *, after_silence: bool = False
    ) -> Findings:
        """Compare with what the backend listed after `mark`, perhaps `after_silence`."""
        for model in (*listing, *self._state.policy.preload):
            self._state.manage(model, now)
        slots = self._state.residency.slots.values()
        away = [slot for slot in slots if slot.state not in {State.READY, State.UNKNOWN}]
        has_restarted = self._reconciler.reconcile(listing, mark, now, after_silence=after_silence)
        renewed = tuple(slot.name for slot in away if slot.state is State.READY)
        return Findings(has_restarted, renewed)

    def not_ready(self, model: str, now: float) -> bool:
        """The backend answered that it has no such model loaded; True when we believed otherwise."""
        slot = self._state.residency.slots.get(model)
        if slot is None or slot.state is not State.READY or not self._state.acts:
            return False
        self._reconciler.lose(slot, now, "the backend says that it is not loaded")
        return True


def _away(slot: Slot) -> State:
    return State.FAILED if slot.is_given_up else State.UNLOADED
