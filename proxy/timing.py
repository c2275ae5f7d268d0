"""Time as the rest of the house sees it: an injected monotonic clock and one absolute deadline for a call.

Instants are seconds on the clock's own axis (never wall time); spans end in ``_s``.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, NewType, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("NEVER", "Clock", "Deadline", "LoopClock", "Timer")

Deadline = NewType("Deadline", float)
"""The instant after which nobody wants the answer any more; `NEVER` when there is none.

A plain float, so that the tightest of several is ``min`` and the hot path pays nothing for it.
"""

NEVER = Deadline(math.inf)


class Timer(Protocol):
    """A pending callback that can be withdrawn."""

    def cancel(self) -> None:
        """Withdraw the callback; harmless when it already ran."""


class Clock(Protocol):
    """Where shells get the time and their one timer from; tests pass a fake."""

    def now(self) -> float:
        """Seconds on a monotonic axis."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` once the clock reaches the instant `when`."""


class LoopClock:
    """The running event loop's timers, and the monotonic clock behind them.

    uvloop's own `time` moves once per millisecond, too coarse to tell a queue's share of a call; both count
    seconds of CLOCK_MONOTONIC, so that instants can be mixed.
    """

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self.now = time.monotonic

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` once the loop's time reaches `when`."""
        return self._loop.call_at(when, callback)
