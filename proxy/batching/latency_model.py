"""How long the backend takes for a batch, learned from batches that had it to themselves.

Theory of operation
-------------------
A batch of W items takes T(W) = a + b·W seconds: `a` for the call itself, `b` for each item. Only batches
that were alone on the backend tell a and b apart from queueing, so only they are observed (the caller
decides). The first observations after a start are dropped: caches are cold, kernels are compiled.

Observations fall into buckets by the power of two of their size; a bucket keeps exponentially weighted
means of size and time and a variance, with a half-life of 50 observations. That bounds the memory, keeps a
hundred observations of one size from drowning ten of another, and forgets slowly. The line through the
buckets is weighted least squares, with a > 0 and b ≥ 0; with one bucket there is no slope to see, so the
last known slope is kept (at first 0).

An observation over five times the prediction is not believed (nor over five times its share, while no slope
is known): a pause of the garbage collector says nothing about the model. Eight in a row are: the backend
has changed, and what was learned is forgotten.

When three or more buckets exist and the line explains less than half of what differs between them, time does
not follow size (`is_linear` is false) and sizes must be found by trial.

Until batches were alone often enough nothing is known. If that never happens (a backend that is never
idle), the caller may offer crowded observations: they overestimate, but an upper bound ends the ignorance,
and the first lone observation replaces them.
"""

from __future__ import annotations

import math

__all__ = ("LatencyModel",)

_HALF_LIFE = 50
_KEEP = 0.5 ** (1 / _HALF_LIFE)
_COLD = 2  # observations dropped after a start
_OUTLIER = 5.0  # times the prediction
_OUTLIERS_TO_FORGET = 8
_CROWDED_TO_BELIEVE = 8
_LEAST_BASE_S = 1e-5
_CONTRAST = 2.5  # weight of other sizes that makes a slope believable
_TO_BE_READY = 3
_TO_BE_SETTLED = 10
_TO_BE_CONFIDENT = 30
_Z95 = 1.65
_LEAST_FIT = 0.5
_BUCKETS_TO_JUDGE = 3


class _Bucket:
    """Batches of similar size: exponentially weighted means and variances of size and time."""

    __slots__ = ("seconds", "seconds_variance", "size", "size_variance", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.size = self.size_variance = 0.0
        self.seconds = self.seconds_variance = 0.0

    def add(self, size: float, seconds: float) -> None:
        self.weight = self.weight * _KEEP + 1
        share = 1 / self.weight
        by_size, by_seconds = size - self.size, seconds - self.seconds
        self.size += share * by_size
        self.seconds += share * by_seconds
        self.size_variance = (1 - share) * (self.size_variance + share * by_size**2)
        self.seconds_variance = (1 - share) * (self.seconds_variance + share * by_seconds**2)

    def scatter(self, slope: float) -> float:
        """The variance of time that is left when `slope` explains what it can of different sizes."""
        return max(0.0, self.seconds_variance - slope**2 * self.size_variance)


class LatencyModel:
    """T(W) = a + b·W with its spread.

    * ``base_s``, ``item_s``: a and b, in seconds.
    * ``spread_s``: standard deviation of an observation around the line.
    * ``count``: observations believed so far.
    """

    __slots__ = (
        "_buckets",
        "_cold",
        "_crowded",
        "_is_rough",
        "_outliers",
        "_size",
        "base_s",
        "count",
        "is_linear",
        "item_s",
        "spread_s",
    )

    def __init__(self) -> None:
        self._cold = _COLD
        self._forget()

    def _forget(self) -> None:
        self._buckets: dict[int, _Bucket] = {}
        self._crowded = 0
        self._outliers = 0
        self._is_rough = False
        self.count = 0
        self.base_s = 0.0
        self.item_s = 0.0
        self.spread_s = 0.0
        self.is_linear = True
        self._size = 1.0  # the mean size of what was observed

    @property
    def is_ready(self) -> bool:
        """Whether there is a prediction at all."""
        return self.count >= _TO_BE_READY

    @property
    def is_settled(self) -> bool:
        """Whether a prediction is good enough to choose sizes by."""
        return self.count >= _TO_BE_SETTLED

    @property
    def is_confident(self) -> bool:
        """Whether a prediction is good enough to turn somebody away."""
        return self.count >= _TO_BE_CONFIDENT and not self._is_rough

    @property
    def is_one_sided(self) -> bool:
        """Whether nearly all observations are of one size, so that the slope is a guess."""
        weights = [bucket.weight for bucket in self._buckets.values()]
        return sum(weights) - max(weights, default=0.0) < _CONTRAST

    def expect_s(self, items: float) -> float:
        """The expected time for a batch of `items`; 0 while nothing is known."""
        return self.base_s + self.item_s * items

    def p95_s(self, items: float) -> float:
        """The time that nineteen of twenty batches of `items` take; 0 while nothing is known."""
        return self.base_s + self.item_s * items + _Z95 * self.spread_s

    def observe(self, items: int, seconds: float, *, was_alone: bool) -> None:
        """A batch of `items` was answered after `seconds`."""
        if self._cold:
            self._cold -= 1
            return
        if was_alone:
            if self._is_rough:
                self._forget()
        elif not self._believes_crowded():
            return
        if self._is_pause(items, seconds):
            self._outliers += 1
            if self._outliers < _OUTLIERS_TO_FORGET:
                return
            self._forget()
        self._outliers = 0
        self.count += 1
        self._buckets.setdefault(items.bit_length(), _Bucket()).add(items, seconds)
        self._fit()

    def _is_pause(self, items: int, seconds: float) -> bool:
        """Whether `seconds` are out of all proportion to what is known, even if time grows with size."""
        if not self.is_ready:
            return False
        in_proportion_s = self.p95_s(self._size) * items / self._size
        return seconds > _OUTLIER * max(self.p95_s(items), in_proportion_s)

    def _believes_crowded(self) -> bool:
        """Whether a crowded observation is better than nothing."""
        if self.count and not self._is_rough:
            return False
        self._crowded += 1
        if self._crowded > _CROWDED_TO_BELIEVE:
            self._is_rough = True
        return self._is_rough

    def _fit(self) -> None:
        buckets = self._buckets.values()
        weight = sum(bucket.weight for bucket in buckets)
        size = sum(bucket.weight * bucket.size for bucket in buckets) / weight
        seconds = sum(bucket.weight * bucket.seconds for bucket in buckets) / weight
        sizes = sum(bucket.weight * (bucket.size - size) ** 2 for bucket in buckets)
        self._size = size
        if len(self._buckets) > 1:
            common = sum(
                bucket.weight * (bucket.size - size) * (bucket.seconds - seconds) for bucket in buckets
            )
            self.item_s = min(max(common / sizes, 0.0), seconds / size)
        self.base_s = max(seconds - self.item_s * size, _LEAST_BASE_S)
        scatter = sum(bucket.weight * bucket.scatter(self.item_s) for bucket in buckets) / weight
        misfit = (
            sum(bucket.weight * (bucket.seconds - self.expect_s(bucket.size)) ** 2 for bucket in buckets)
            / weight
        )
        self.spread_s = math.sqrt(scatter + misfit)
        if len(self._buckets) >= _BUCKETS_TO_JUDGE:
            between = sum(bucket.weight * (bucket.seconds - seconds) ** 2 for bucket in buckets) / weight
            # Buckets that differ no more than batches of one size do are flat: a line of slope 0 explains
            # them.
            self.is_linear = between <= scatter or misfit <= (1 - _LEAST_FIT) * between
