"""Exponential back-off with full jitter (pure).

The span doubles with each failure in a row up to `most_s`, and the actual wait is drawn evenly from zero to
that span, so that the many who failed together do not come back together. The random number is an argument.
"""

from __future__ import annotations

__all__ = ("Backoff", "backoff_s")


def backoff_s(failures: int, base_s: float, most_s: float) -> float:
    """The span after `failures` (at least 1) in a row, without jitter."""
    exponent = min(failures - 1, 32)  # beyond any span; keeps the power finite
    return float(min(most_s, base_s * 2**exponent))


class Backoff:
    """Counts failures in a row; `failures` is 0 after a success."""

    __slots__ = ("_base_s", "_most_s", "failures")

    def __init__(self, base_s: float, most_s: float) -> None:
        self._base_s = base_s
        self._most_s = most_s
        self.failures = 0

    def failed(self, jitter: float) -> float:
        """Count a failure; the span to wait now, for a `jitter` in [0, 1)."""
        self.failures += 1
        return backoff_s(self.failures, self._base_s, self._most_s) * jitter

    def succeeded(self) -> None:
        """Start over."""
        self.failures = 0
