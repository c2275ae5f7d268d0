"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ManualClock",)


class _ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """`timing.Clock` under the test's control."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    @property
    def pending(self) -> int:
        """Timers that have neither run nor been cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> _ManualTimer:
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, span_s: float, *, late_s: float = 0.0) -> None:
        """Run what falls due within `span_s`, each timer `late_s` after its instant."""
        end = self._now + span_s
        while self._timers and self._timers[0][0] + late_s <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when + late_s)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._now = end
