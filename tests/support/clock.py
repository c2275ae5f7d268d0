"""Time that moves only when a test says so."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FakeClock", "FakeTimer")


class FakeTimer:
    """A callback that runs when the clock reaches `when`."""

    __slots__ = ("_clock", "callback", "when")

    def __init__(self, clock: FakeClock, when: float, callback: Callable[[], object]) -> None:
        self._clock = clock
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Withdraw the callback; harmless when it already ran."""
        self._clock.forget(self)


class FakeClock:
    """A `Clock` whose time a test advances; due timers run in order, each at its own instant."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._sequence = count()

    @property
    def pending(self) -> list[FakeTimer]:
        """Timers that have not run yet, soonest first."""
        return [timer for _, _, timer in sorted(self._timers)]

    def now(self) -> float:
        """The current instant, in seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        """Run `callback` once the clock reaches `when`; at the next advance if that is past."""
        timer = FakeTimer(self, when, callback)
        heapq.heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def advance(self, span_s: float) -> None:
        """Let `span_s` seconds pass."""
        self.advance_to(self._now + span_s)

    def advance_to(self, instant: float) -> None:
        """Let time pass until `instant`."""
        while self._timers and self._timers[0][0] <= instant:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.callback()
        self._now = max(self._now, instant)

    def jump(self, span_s: float) -> None:
        """Let `span_s` seconds pass in which no timer gets to run, as on a busy machine."""
        self._now += span_s

    def forget(self, timer: FakeTimer) -> None:
        """Drop `timer` if it is pending."""
        self._timers = [entry for entry in self._timers if entry[2] is not timer]
        heapq.heapify(self._timers)
