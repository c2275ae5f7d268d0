"""What one model costs: how long it takes to load, and how many bytes it holds.

Theory of operation
-------------------
Load time is estimated as TCP estimates round trips (Jacobson 1988, RFC 6298): a mean with gain 1/8 and a mean
deviation with gain 1/4. The plain mean enters scores, ``mean + 2 dev`` is promised to a waiting client, and
``mean + 4 dev``, four times over, is when a load counts as hung. The first measured load replaces the prior
(declared time, else size over 1 GB/s, else 30 s) outright, because a prior has no business in an average.

Size follows trust: declared by the operator, else reported by the backend (the most ever seen, since a
report taken while memory was tight is too small), else a default. A backend that ran out of memory although
the sum said that it would fit has proved the estimate wrong: it grows by a quarter, the declared one
included. Under-prediction is what makes budgets collapse into mass eviction; over-prediction merely leaves
a little memory idle.
"""

from __future__ import annotations

from typing import Any

__all__ = ("LoadCost",)

_MEAN_GAIN = 0.125
_DEV_GAIN = 0.25
_BYTES_PER_S = 1e9
_DEFAULT_LOAD_S = 30.0
_DEFAULT_SIZE = 1 << 30
_UNMEASURED_TIMEOUT_S = 600.0
_LEAST_TIMEOUT_S = 30.0


class LoadCost:
    """Load time (seconds) and size (bytes) of one model, as well as they are known."""

    __slots__ = ("_declared_s", "_declared_size", "_dev", "_mean", "_reported", "_stretch", "samples")

    def __init__(self, declared_s: float | None = None, declared_size: int | None = None) -> None:
        self._declared_s = declared_s
        self._declared_size = declared_size
        self._mean = 0.0
        self._dev = 0.0
        self._reported = 0
        self._stretch = 1.0
        self.samples = 0

    def declare(self, seconds: float | None, size: int | None) -> None:
        """Take over what the operator says; a restored history may hold older words."""
        self._declared_s = seconds
        self._declared_size = size

    @property
    def size(self) -> int:
        """Bytes to reserve before a load starts."""
        base = self._declared_size or self._reported or _DEFAULT_SIZE
        return int(base * self._stretch)

    @property
    def is_size_known(self) -> bool:
        """Whether the size is more than a default."""
        return bool(self._declared_size or self._reported)

    @property
    def is_guess(self) -> bool:
        """Whether nothing is known about how long a load takes."""
        return not self.samples and self._declared_s is None and not self.is_size_known

    @property
    def seconds(self) -> float:
        """Expected span of one load."""
        if self.samples:
            return self._mean
        if self._declared_s is not None:
            return self._declared_s
        known = self._declared_size or self._reported
        return known / _BYTES_PER_S if known else _DEFAULT_LOAD_S

    @property
    def promise_s(self) -> float:
        """Span within which a load ends nearly always."""
        return self._mean + 2 * self._dev if self.samples else self.seconds

    @property
    def timeout_s(self) -> float:
        """Span after which a load counts as hung."""
        if not self.samples:
            return max(_UNMEASURED_TIMEOUT_S, 4 * self.seconds)
        return max(_LEAST_TIMEOUT_S, 4 * (self._mean + 4 * self._dev))

    def measured(self, seconds: float) -> None:
        """One load took `seconds`."""
        if self.samples:
            error = seconds - self._mean
            self._mean += _MEAN_GAIN * error
            self._dev += _DEV_GAIN * (abs(error) - self._dev)
        else:
            self._mean = seconds
            self._dev = seconds / 4  # half, as for round trips, would promise twice what a load repeats
        self.samples += 1

    def reported(self, size: int) -> None:
        """The backend says that the model holds `size` bytes."""
        self._reported = max(self._reported, size)

    def too_small(self) -> None:
        """The backend ran out of memory while loading the model: its size was under-estimated."""
        self._stretch = min(4.0, self._stretch * 1.25)

    def dump(self) -> dict[str, Any]:
        """What was measured, ready for JSON."""
        return {
            "mean": self._mean,
            "dev": self._dev,
            "samples": self.samples,
            "size": self._reported,
            "stretch": self._stretch,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `dump`; KeyError, TypeError or ValueError when it is not one."""
        self._mean, self._dev = float(state["mean"]), float(state["dev"])
        self.samples, self._reported = int(state["samples"]), int(state["size"])
        self._stretch = float(state["stretch"])
