"""What others do, for comparison: LRU, fixed idle times, the hybrid histogram, and an oracle.

Theory of operation
-------------------
Every baseline runs in the production planner, with the same demand queue, single flight and memory
accounting; only the eviction order and the look-ahead are exchanged. So a difference in a table is a
difference of policy alone.

* LRU: the least recently used idle model goes; nothing is loaded ahead.
* A fixed idle time (TTL): as LRU, and a model leaves when it has been idle for that long.
* Hybrid histogram (Shahrad et al., USENIX ATC 2020): one-minute bins of idle times up to four hours. Where
  the bins are uneven enough (coefficient of variation at least 2), the model leaves at once and is brought
  back at 0.9 times the 5th percentile, and stays until 1.1 times the 99th. Where at least half of the idle
  times are out of range, the forecast is their mean (the paper fits ARIMA), 15 % early, kept for 30 % of
  it. Else it is kept for the whole range.
* Clairvoyant: knows the trace; what goes is what is worth least load time for each byte and second until
  its next use.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from itertools import accumulate
from math import inf, sqrt
from typing import TYPE_CHECKING

from proxy.loading.predictor import Forecast, IdleHint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.loading.history import Arrival, ModelHistory
    from proxy.loading.predictor import Hint
    from proxy.loading.slot import Slot

__all__ = ("Clairvoyant", "FixedIdle", "HybridHistogram", "Lru")

_RANGE_MIN = 240
_LEAST_CV = 2.0
_TICK_S = 1e-3
_LEAST_PREWARM_S = (
    300.0  # the paper's functions start in a second; models that take half a minute cannot come and go
)


class Lru:
    """Least recently used first."""

    def touched(self, slot: Slot, past: ModelHistory, now: float) -> None:
        """Remember the access."""
        slot.value = now

    def rank(self, slot: Slot, now: float) -> float:
        """The instant of the last access."""
        return slot.value

    def evicted(self, slot: Slot, now: float) -> None:
        """Nothing to age."""


class Clairvoyant:
    """Least load time for each byte and second until the next use first."""

    def __init__(self, trace: Sequence[Arrival]) -> None:
        self._uses: dict[str, list[float]] = {}
        for at, model, _ in trace:
            self._uses.setdefault(model, []).append(at)

    def touched(self, slot: Slot, past: ModelHistory, now: float) -> None:
        """The past does not matter."""

    def rank(self, slot: Slot, now: float) -> float:
        """Worth of keeping the model; zero when it is never used again."""
        uses = self._uses.get(slot.name, [])
        index = bisect_right(uses, now)
        if index == len(uses):
            return 0.0
        return slot.cost.seconds / slot.cost.size / max(uses[index] - now, 1e-3)

    def evicted(self, slot: Slot, now: float) -> None:
        """Nothing to age."""


class FixedIdle:
    """Unloads after `ttl_s` of idleness (`inf`: never) and forecasts nothing."""

    def __init__(self, ttl_s: float = inf) -> None:
        self._ttl = ttl_s
        self._ends: dict[str, float] = {}
        self._heap: list[tuple[float, str, float]] = []

    def arrived(self, model: str, now: float) -> list[Forecast]:
        """The model is busy."""
        self._ends.pop(model, None)
        return []

    def ended(self, model: str, now: float) -> None:
        """The model is idle from `now` on."""
        self._ends[model] = now
        self._plan(model, now)

    def _plan(self, model: str, now: float) -> None:
        if self._ttl < inf:
            self._push(now + self._ttl, model)

    def _push(self, at: float, model: str) -> None:
        heappush(self._heap, (at, model, self._ends[model]))

    def advance(self, now: float) -> list[Hint]:
        """Models whose time is over."""
        hints: list[Hint] = []
        while self._heap and self._heap[0][0] <= now:
            _, model, idle_since = heappop(self._heap)
            if self._ends.get(model) == idle_since:
                hints += self._due(model, now, now - self._ends[model])
        return hints

    def _due(self, model: str, now: float, age: float) -> list[Hint]:
        return [IdleHint(model, f"idle for {age:.0f} s")] if age >= self._ttl - _TICK_S else []

    def next_at(self) -> float:
        """The next instant at which somebody's time may be over."""
        return self._heap[0][0] if self._heap else inf

    def seasonal(self, models: Iterable[str], now: float) -> list[Forecast]:
        """Nothing."""
        return []

    def is_expected(self, model: str, now: float) -> bool:
        """Never."""
        return False

    def expected_at(self, model: str) -> float | None:
        """Nobody knows."""
        return None


class _Idle:
    """One-minute histogram of a model's idle times, up to four hours."""

    def __init__(self) -> None:
        self.bins = [0] * _RANGE_MIN
        self.out_of_range: list[float] = []
        self.count = 0

    def add(self, idle_s: float) -> None:
        self.count += 1
        minute = int(idle_s // 60)
        if minute < _RANGE_MIN:
            self.bins[minute] += 1
        else:
            self.out_of_range.append(idle_s)

    def plan(self) -> tuple[float, float]:
        """(idle age at which to load, idle age until which to keep) in seconds; 0: not unloaded before."""
        if self.out_of_range and 2 * len(self.out_of_range) >= self.count:
            forecast = sum(self.out_of_range) / len(self.out_of_range)
            return 0.85 * forecast, 1.15 * forecast
        if self.count < 2 or self._cv() < _LEAST_CV:
            return 0.0, _RANGE_MIN * 60.0
        head, tail = 0.9 * 60.0 * self._percentile(0.05), 1.1 * 60.0 * (self._percentile(0.99) + 1)
        return (head if head > _LEAST_PREWARM_S else 0.0), tail

    def _cv(self) -> float:
        mean = sum(self.bins) / _RANGE_MIN
        return sqrt(sum((b - mean) ** 2 for b in self.bins) / _RANGE_MIN) / mean

    def _percentile(self, share: float) -> int:
        sums = list(accumulate(self.bins))
        return next(minute for minute, total in enumerate(sums) if total >= share * sums[-1] and total > 0)


class HybridHistogram(FixedIdle):
    """The hybrid histogram policy of Shahrad et al."""

    def __init__(self) -> None:
        super().__init__()
        self._idles: dict[str, _Idle] = {}

    def arrived(self, model: str, now: float) -> list[Forecast]:
        """Learn the idle time that ends."""
        if model in self._ends:
            self._idles.setdefault(model, _Idle()).add(now - self._ends[model])
        return super().arrived(model, now)

    def _plan(self, model: str, now: float) -> None:
        prewarm, keep = self._idles.setdefault(model, _Idle()).plan()
        if prewarm > 0:
            self._push(now, model)
            self._push(now + prewarm, model)
        self._push(now + keep, model)

    def _due(self, model: str, now: float, age: float) -> list[Hint]:
        prewarm, keep = self._idles[model].plan()
        if age >= keep - _TICK_S:
            return [IdleHint(model, "kept for the 99th percentile")]
        if age >= prewarm - _TICK_S:
            return [Forecast(model, "periodic", now, now + keep - age, 1.0)]
        return [IdleHint(model, "comes back in time")]
