"""Which models hold memory, which may go, and who goes first.

Theory of operation
-------------------
Each managed model has one slot: UNKNOWN (no say: requests pass), UNLOADED, LOADING, READY, UNLOADING,
FAILED. Memory is reserved when a load *starts* and given back when the backend has confirmed the unload, so
the sum over LOADING, READY and UNLOADING never exceeds the budget by a decision of ours. (What others load
may exceed it; then nothing is loaded until it fits again.) A count limit and exclusive groups restrict
residency in the same way.

Victims are taken in the order of an `Eviction` until the bytes suffice, and then those that turned out
unnecessary are let off, the largest first.

A model may go when it is READY, idle, unpinned, and the backend can unload it. One inside its own predicted
window goes only when nothing else suffices. When churn is high (more than 30 % of the last 20 loads brought
back what had been unloaded within ten minutes), a model keeps its place until it has been ready for twice
the other's load time, or the other has waited that long. When all that could go is busy for that long, the
least valuable busy models are *drained*: their new requests wait, those in flight finish, and then they go.
So neither side starves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.loading.eviction import Eviction
    from proxy.loading.policy import LoadingPolicy

__all__ = ("Residency", "Room")

_CHURN_WINDOW = 20
_CHURN_LEAST = 10
_CHURN_SHARE = 0.3
_CHURN_S = 600.0


class Room(NamedTuple):
    """Whether a model fits: at once, after `victims` have gone, or not now (`why`)."""

    fits: bool
    victims: tuple[Slot, ...] = ()
    why: str = ""


@dataclass(slots=True)
class Residency:
    """Slots of all managed models within one memory budget."""

    policy: LoadingPolicy
    eviction: Eviction
    can_unload: bool = True
    slots: dict[str, Slot] = field(default_factory=dict)
    used: int = 0
    residents: int = 0
    changes: int = 0
    """State changes so far, of all slots."""
    loading: dict[str, Slot] = field(default_factory=dict)
    """Slots in LOADING, in the order in which they started."""
    loaded_at: float = -inf
    """When a slot last left LOADING."""
    _churn: deque[bool] = field(default_factory=lambda: deque(maxlen=_CHURN_WINDOW))

    # ------------------------------------------------------------- states
    def move(self, slot: Slot, state: State, now: float) -> None:
        """Change a slot's state; memory is reserved or given back with it."""
        before, was_resident = slot.state, slot.is_resident
        slot.state = state
        slot.is_in_doubt = False
        slot.changed_at = now
        self.changes += 1
        slot.change = self.changes
        if slot.is_resident != was_resident:
            self.residents += 1 if slot.is_resident else -1
            self._hold(slot, slot.cost.size if slot.is_resident else 0)
        if self.loading.pop(slot.name, None) is not None:
            self.loaded_at = now
        if state is State.LOADING:
            self.loading[slot.name] = slot
            self._churn.append(now - slot.unloaded_at < _CHURN_S)
        elif state is not State.READY:
            slot.is_draining = False
            if state is State.UNLOADED and before in {State.READY, State.UNLOADING}:
                slot.unloaded_at = now

    def resize(self, slot: Slot) -> None:
        """The size of a resident model is known better now."""
        if slot.is_resident:
            self._hold(slot, slot.cost.size)

    def _hold(self, slot: Slot, held: int) -> None:
        self.used += held - slot.held
        slot.held = held

    def has_loaded_since(self, at: float) -> bool:
        """Whether a load was under way at any time from `at` on."""
        return bool(self.loading) or self.loaded_at >= at

    @property
    def churn(self) -> float:
        """Share of the recent loads that brought back what had just been unloaded."""
        return sum(self._churn) / len(self._churn) if self._churn else 0.0

    @property
    def is_thrashing(self) -> bool:
        """Whether models push each other out."""
        return len(self._churn) >= _CHURN_LEAST and self.churn > _CHURN_SHARE

    # ------------------------------------------------------------- room
    def free(self) -> float:
        """Bytes of the budget that nobody holds; `inf` without a budget."""
        return self.policy.budget - self.used if self.policy.budget else inf

    def reserve(self) -> float:
        """Bytes that speculation leaves to demand: the largest model, at least a tenth of the budget."""
        if not self.policy.budget:
            return 0.0
        largest = max((slot.cost.size for slot in self.slots.values()), default=0)
        return max(largest, 0.1 * self.policy.budget)

    def impossible(self, slot: Slot) -> str:
        """Why the model can never be resident beside the pinned ones; empty when it can."""
        pinned = [s for s in self.slots.values() if s.is_pinned and s.is_resident and s is not slot]
        left = self.policy.budget - sum(s.held for s in pinned)
        if self.policy.budget and slot.cost.size > left:
            guess = "" if slot.cost.is_size_known else " (a guess: loading.models declares no size)"
            return f"needs {slot.cost.size >> 20} MiB{guess}, {max(0, left) >> 20} MiB are not pinned"
        if self.policy.max_models and len(pinned) >= self.policy.max_models:
            return f"all {self.policy.max_models} places are pinned"
        return ""

    def fits(self, slot: Slot, spoken: float = 0.0) -> bool:
        """Whether the model can be loaded now, `spoken` bytes being promised to others."""
        places = self.policy.max_models or inf
        return slot.cost.size <= self.free() - spoken and self.residents < places and not self._rivals(slot)

    def room(self, slot: Slot, may_go: Callable[[Slot], bool], now: float, spoken: float = 0.0) -> Room:
        """How the model can be made to fit, evicting only what `may_go` lets go."""
        if self.fits(slot, spoken):
            return Room(fits=True)
        rivals = self._rivals(slot)
        leaving = [s for s in self.slots.values() if s.state is State.UNLOADING]
        stuck = [s for s in rivals if s not in leaving and not may_go(s)]
        if stuck:
            return Room(fits=False, why=f"its group holds {stuck[0].name}")
        victims = [s for s in rivals if s not in leaving]
        bytes_short = slot.cost.size - (self.free() - spoken) - sum(s.held for s in (*leaving, *victims))
        places_short = (
            self.residents + 1 - len(leaving) - len(victims) - (self.policy.max_models or self.residents + 1)
        )
        others = sorted(
            (s for s in self.slots.values() if s not in victims and may_go(s)),
            key=lambda s: (self.eviction.rank(s, now), s.last_used, s.name),
        )
        chosen = _enough(others, bytes_short, places_short)
        if chosen is None:
            return Room(fits=False, why=f"{bytes_short:.0f} bytes short, nothing idle can go")
        return Room(fits=False, victims=(*victims, *chosen))

    def may_go(self, slot: Slot, now: float) -> bool:
        """Whether the model could be evicted, were it idle."""
        is_free = not slot.is_pinned and slot.policy.unload == "auto" and now >= slot.stuck_until
        return self.can_unload and slot.state is State.READY and is_free

    def _rivals(self, slot: Slot) -> list[Slot]:
        group = slot.policy.group
        if not group:
            return []
        return [s for s in self.slots.values() if s is not slot and s.policy.group == group and s.is_resident]


def _enough(candidates: Iterable[Slot], bytes_short: float, places_short: int) -> list[Slot] | None:
    """The first of the `candidates` that make up for what is short, less those that were not needed."""
    chosen: list[Slot] = []
    for slot in candidates:
        if bytes_short <= 0 and places_short <= 0:
            break
        chosen.append(slot)
        bytes_short -= slot.held
        places_short -= 1
    if bytes_short > 0 or places_short > 0:
        return None
    for slot in sorted(chosen, key=lambda s: -s.held):
        if bytes_short + slot.held <= 0 and places_short + 1 <= 0:
            chosen.remove(slot)
            bytes_short += slot.held
            places_short += 1
    return chosen
