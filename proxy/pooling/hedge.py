"""When a slow call is worth a second copy (pure).

The copy is sent once the first has taken longer than 95 % of the calls before it, so about one call in twenty
is hedged; the budget caps that at `share` also when everything becomes slow at once, which is when copies
would hurt. Latencies are kept in a ring of the last few hundred; the percentile is refreshed every 32 calls.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ("Hedge",)

_RING: Final = 256
_LEAST_SAMPLES: Final = 32
_BURST: Final = 5.0


class Hedge:
    """`observe` each call's span; `delay_s` is how long to wait before a copy, None while unknown."""

    __slots__ = ("_credit", "_seen", "_share", "_spans", "delay_s")

    def __init__(self, share: float) -> None:
        self._share = share
        self._credit = 1.0
        self._seen = 0
        self._spans: deque[float] = deque(maxlen=_RING)
        self.delay_s: float | None = None

    def observe(self, span_s: float) -> None:
        """A call took `span_s` seconds; it also earns its share of a copy."""
        self._spans.append(span_s)
        self._credit = min(_BURST, self._credit + self._share)
        self._seen += 1
        if self._seen % _LEAST_SAMPLES == 0:
            ordered = sorted(self._spans)
            self.delay_s = ordered[len(ordered) * 95 // 100]

    def take(self) -> bool:
        """Send a copy now? False when the budget is spent."""
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
