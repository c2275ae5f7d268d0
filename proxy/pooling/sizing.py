"""How many connections a pool should have open (pure).

Every second the pool says how many connections were in use at the peak of that second. The target is the
highest peak of the last ten seconds plus 5 %, plus twice the square root of the smoothed use: the square-root
staffing rule, which covers Poisson bursts. It is kept between `least` and `most`.

Growing is immediate, because a waiting call is a reason of its own. Shrinking is slow: nothing for thirty
seconds after the target grew, then half of the idle surplus every five seconds, from the cold end. A service
that breathes does not re-dial at each breath.

`spare` is how many idle connections are worth keeping warm: `least`, or a single one when the backend closes
idle connections within five seconds and is asked less than once in that time, because keeping them warm would
then cost more dials than it saves.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ("Sizing",)

_WINDOW_TICKS: Final = 10
_SMOOTHING: Final = 0.1
_HOLD_S: Final = 30.0
_SHRINK_EVERY_S: Final = 5.0
_IMPATIENT_S: Final = 5.0


class Sizing:
    """`tick` once a second; `target` is what should be open, busy and idle together."""

    __slots__ = ("_grew_at", "_least", "_most", "_peaks", "_shrunk_at", "_smooth_use", "target")

    def __init__(self, least: int, most: int) -> None:
        self._least = min(least, most)
        self._most = most
        self._peaks: deque[int] = deque(maxlen=_WINDOW_TICKS)
        self._smooth_use = 0.0
        self._grew_at = -math.inf
        self._shrunk_at = -math.inf
        self.target = self._least

    def tick(self, now: float, peak: int) -> None:
        """`peak` connections were in use at once in the second that ends `now`."""
        self._peaks.append(peak)
        self._smooth_use += _SMOOTHING * (peak - self._smooth_use)
        wanted = (
            math.ceil(1.05 * max(self._peaks) + 2 * math.sqrt(self._smooth_use)) if any(self._peaks) else 0
        )
        target = max(self._least, min(wanted, self._most))
        if target > self.target:
            self._grew_at = now
        self.target = target

    def surplus(self, now: float, idle: int, leased: int) -> int:
        """How many idle connections to close now, coldest first."""
        excess = idle - max(self._least, self.target - leased)
        if excess <= 0 or now - self._grew_at < _HOLD_S or now - self._shrunk_at < _SHRINK_EVERY_S:
            return 0
        self._shrunk_at = now
        return (excess + 1) // 2

    def spare(self, idle_limit_s: float, calls_per_s: float) -> int:
        """How many idle connections to keep warm, given the learned idle limit and the traffic."""
        if idle_limit_s <= _IMPATIENT_S and calls_per_s * idle_limit_s <= 1:
            return min(1, self._least)
        return self._least
