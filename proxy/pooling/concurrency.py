"""An adaptive limit on calls in flight to one endpoint: Gradient2 (pure).

When a backend is given more than it can work on at once, its answers only take longer. The limiter compares
how long answers take now with how long they took on average over the last few hundred calls:

    gradient = clamp(tolerance * long / short, 0.5, 1)
    limit    = smoothed(limit * gradient + sqrt(limit))

While latency is steady the gradient is 1 and the limit grows by its square root, the queue that is allowed to
form. When latency rises beyond `tolerance` times its average, the limit shrinks at once, at most by half.
When a long overload has dragged the average up and latency recovers to less than half of it, the average is
pulled down, so that it does not excuse the next overload. A limit that is not used (less than half of it in
flight) says nothing about the backend and stays as it is.

After Netflix's `concurrency-limits`; the room for a queue is Envoy's square root. The span measured is that
to the answer's first byte for streams, to its end otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.pooling.policy import ConcurrencyPolicy

__all__ = ("Gradient",)

_START: Final = 20
_TOLERANCE: Final = 1.5
_SMOOTHING: Final = 0.2
_WARM_UP: Final = 10
_LONG: Final = 2 / 601  # exponential average over 600 calls


class Gradient:
    """`sample` every call; `limit` calls may be in flight."""

    __slots__ = ("_least", "_limit", "_long_s", "_most", "_samples")

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._least = policy.least
        self._most = policy.most
        self._limit = float(min(policy.most, max(policy.least, _START)))
        self._long_s = 0.0
        self._samples = 0

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return int(self._limit)

    def sample(self, span_s: float, in_flight: int) -> None:
        """A call took `span_s` seconds while `in_flight` were under way, itself included."""
        self._average(span_s)
        if in_flight < self._limit / 2 or span_s <= 0:
            return
        gradient = max(0.5, min(1.0, _TOLERANCE * self._long_s / span_s))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        limit = self._limit + _SMOOTHING * (wanted - self._limit)
        self._limit = max(self._least, min(limit, self._most))

    def _average(self, span_s: float) -> None:
        self._samples += 1
        share = 1 / self._samples if self._samples <= _WARM_UP else _LONG
        self._long_s += share * (span_s - self._long_s)
        if self._long_s > 2 * span_s:
            self._long_s *= 0.95
