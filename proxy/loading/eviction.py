"""In which order idle models go: least seconds of waiting saved for each byte and second of memory first.

Theory of operation
-------------------
The ideal victim is the model whose place costs most for what it saves. A model that has been idle for `age`
seconds saves one load time L if it is used again within a horizon T, and until then (or until T) it
occupies S bytes. With its own past gaps this is

    worth = L / S * P(used within T | idle for age) / E[min(time to next use, T) | idle for age]

which is the hit density of Beckmann, Chen and Cidon (LHD, NSDI 2018) with the gaps of each model in place
of classes, and load time in place of a constant miss cost. A timer that fired a moment ago ranks low until
its next shot draws near; a model used in bursts ranks high within a burst and low after it; without a past
it ranks like LRU.

T follows the memory: four times the mean idle age at which models are evicted, since nothing lives much
longer.

Measured beside greedy-dual-size-frequency (GDSF, what FaasCache uses: ``H = clock + f L / S``), with which
it shares size and cost, it waits 3 to 35 % less on the traces in `bench`, and never more. GDSF stays here
for comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.loading.history import History, ModelHistory
    from proxy.loading.slot import Slot

__all__ = ("Eviction", "Gdsf", "HitDensity")

_HORIZONS = 4.0
_LEAST_T, _MOST_T = 600.0, 86400.0
_FIRST_T = 3600.0
_AGE_GAIN = 1 / 16
_GIB = 1 << 30


class Eviction(Protocol):
    """The order in which idle models go."""

    def touched(self, slot: Slot, past: ModelHistory, now: float) -> None:
        """The model was used, or has just been loaded."""

    def rank(self, slot: Slot, now: float) -> float:
        """The least goes first."""

    def evicted(self, slot: Slot, now: float) -> None:
        """The model goes."""


class HitDensity:
    """Seconds of load saved for each GiB and second of residency, from each model's own gaps."""

    __slots__ = ("_age", "_history", "horizon_s")

    def __init__(self, history: History) -> None:
        self._history = history
        self._age = _FIRST_T / _HORIZONS
        self.horizon_s = _FIRST_T

    def touched(self, slot: Slot, past: ModelHistory, now: float) -> None:
        """Everything is in the history already."""

    def rank(self, slot: Slot, now: float) -> float:
        """Worth of the model's place from now on."""
        past = self._history.of(slot.name, now)
        if not past.is_used:
            return 0.0
        age = max(1.0, now - past.last_end) if slot.in_flight == 0 else 1.0
        ends, lasts = past.gaps.reuse(age, self.horizon_s)
        return ends / lasts * slot.cost.seconds * _GIB / max(slot.cost.size, 1)

    def evicted(self, slot: Slot, now: float) -> None:
        """Learn how long idle models live."""
        age = max(0.0, now - self._history.of(slot.name, now).last_end)
        self._age += _AGE_GAIN * (age - self._age)
        self.horizon_s = min(_MOST_T, max(_LEAST_T, _HORIZONS * self._age))


class Gdsf:
    """Greedy-dual size frequency: clock + decayed requests x load time / size."""

    __slots__ = ("clock",)

    def __init__(self) -> None:
        self.clock = 0.0

    def touched(self, slot: Slot, past: ModelHistory, now: float) -> None:
        """Fix the score at this access."""
        gib = max(slot.cost.size, 1 << 20) / _GIB
        slot.value = self.clock + past.frequency(now) * slot.cost.seconds / gib

    def rank(self, slot: Slot, now: float) -> float:
        """The score fixed at the last access."""
        return slot.value

    def evicted(self, slot: Slot, now: float) -> None:
        """Age all others."""
        self.clock = max(self.clock, slot.value)
