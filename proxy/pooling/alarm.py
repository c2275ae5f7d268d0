"""One timer for many instants.

Arming a loop timer for each call would cost more than writing the request. Instead its owner keeps the
instants where they belong (a connection knows when it is overdue, a ticket when it gives up) and says only
how early it must be woken. The alarm holds at most one timer, for the earliest instant asked for; when it
fires, the owner deals with what is due and answers when it wants to be woken next. Instants that moved later
meanwhile cost one early wake-up in each span, not one timer in each call.

Owned by one pool; waits for nothing else; ends with `cancel`.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.timing import Clock, Timer

__all__ = ("Alarm", "sleep")


async def sleep(clock: Clock, span_s: float) -> None:
    """Let `span_s` seconds of the clock pass."""
    passed = asyncio.Event()
    timer = clock.call_at(clock.now() + span_s, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()


class Alarm:
    """Calls `on_due(now)` no later than the earliest armed instant; it returns the next one (inf: none)."""

    __slots__ = ("_clock", "_is_cancelled", "_on_due", "_timer", "armed_for")

    def __init__(self, clock: Clock, on_due: Callable[[float], float]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._timer: Timer | None = None
        self._is_cancelled = False
        self.armed_for = math.inf

    def arm(self, when: float) -> None:
        """Wake the owner at `when` at the latest."""
        if when >= self.armed_for or self._is_cancelled:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.armed_for = when
        self._timer = self._clock.call_at(when, self._fire)

    def cancel(self) -> None:
        """Never wake the owner again."""
        self._is_cancelled = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self.armed_for = math.inf
        self.arm(self._on_due(self._clock.now()))
