"""The idle gaps of one model as a fading histogram, and the test whether they are periodic.

Theory of operation
-------------------
A gap runs from the end of the last request to the start of the next. Gaps are counted in logarithmic bins,
five per octave from one second to four days, so 93 numbers cover a burst and a daily job alike with 15 %
resolution. Each new gap weighs 1/0.995 times its predecessor, which fades the past (about 200 gaps of
memory) without touching the other bins: an update is O(1), and the rare rescaling keeps the weights finite.

What matters for loading is never the whole distribution but the rest of it, *given that the model has been
idle for `age` seconds already*: a job that fires ten requests within a second every hour has mostly tiny
gaps, and is yet perfectly predictable once it has been quiet for half a minute. So every question takes
`age`, and looks only at longer gaps.

The gaps longer than `age` are periodic when there are at least eight of them and (q95 - q05) / q50 ≤ 0.5.
The next request is then expected between 0.9 · q05 and 1.1 · q99 after the last end (the margins of Shahrad
et al., USENIX ATC 2020). The hazard is the share of those gaps that end within the next `span` seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from math import ceil, log, log2
from typing import NamedTuple

__all__ = ("GapHistogram", "Window")

_PER_OCTAVE = 5
_BINS = 1 + ceil(_PER_OCTAVE * log2(4 * 86400.0))
_FADE = 1 / 0.995
_RESCALE_AT = 1e9
_LEAST_GAPS = 8
_WIDEST_SPREAD = 0.5
_EARLY, _LATE = 0.9, 1.1
_PRIOR_SCALE_S = 60.0


class Window(NamedTuple):
    """Idle ages (seconds after the last end) between which the next request is expected."""

    opens_s: float
    closes_s: float


def _bin(gap_s: float) -> int:
    return 0 if gap_s < 1.0 else min(_BINS - 1, 1 + int(_PER_OCTAVE * log2(gap_s)))


def _edge(index: int) -> float:
    """Lower edge of a bin, in seconds."""
    return 0.0 if index == 0 else 2.0 ** ((index - 1) / _PER_OCTAVE)


_MIDDLES = [(_edge(index) + _edge(index + 1)) / 2 for index in range(_BINS)]


class GapHistogram:
    """Fading log-binned counts of idle gaps (seconds)."""

    __slots__ = ("_bins", "_weight")

    def __init__(self) -> None:
        self._bins = array("d", bytes(8 * _BINS))
        self._weight = 1.0

    def add(self, gap_s: float) -> None:
        """Count one gap; O(1)."""
        self._weight *= _FADE
        self._bins[_bin(gap_s)] += self._weight
        if self._weight > _RESCALE_AT:
            scale = 1 / self._weight
            self._bins = array("d", (weight * scale for weight in self._bins))
            self._weight = 1.0

    def count(self, age_s: float = 0.0) -> float:
        """Gaps longer than `age_s`, each counted by its present weight (at most 1)."""
        return sum(self._bins[_bin(age_s) :]) / self._weight

    def hazard(self, age_s: float, span_s: float) -> float:
        """Probability that a gap that has lasted `age_s` ends within the next `span_s`."""
        rest = self._mass_above(age_s)
        return 0.0 if rest <= 0 else 1.0 - self._mass_above(age_s + span_s) / rest

    def quantile(self, share: float, age_s: float = 0.0) -> float:
        """The gap that `share` of the gaps longer than `age_s` do not exceed; 0 when there are none."""
        first = _bin(age_s)
        sums = list(accumulate(self._bins[first:]))
        return _interpolate(sums, first, share) if sums[-1] > 0 else 0.0

    def window(self, age_s: float) -> Window | None:
        """When the next request is due after the last end, if the gaps longer than `age_s` are periodic."""
        first = _bin(age_s) + (age_s > 0)  # the bin that holds `age_s` itself is over, or nearly
        sums = list(accumulate(self._bins[first:]))
        if not sums or sums[-1] < _LEAST_GAPS * 0.97 * self._weight:  # eight gaps, faded
            return None
        low, high = _interpolate(sums, first, 0.05), _interpolate(sums, first, 0.95)
        if high - low > _WIDEST_SPREAD * _interpolate(sums, first, 0.5):
            return None
        return Window(_EARLY * low, _LATE * _interpolate(sums, first, 0.99))

    def reuse(self, age_s: float, span_s: float, prior: float = 1.0) -> tuple[float, float]:
        """(weight that ends, weighted seconds until then) within `span_s`, of gaps that have lasted `age_s`.

        `prior` gaps of a Pareto distribution with exponent 1 are mixed in: whatever has been idle for long
        will probably be so for as long again, which is all that is known about a model without a past.
        """
        heavy = age_s + _PRIOR_SCALE_S
        ends = prior * span_s / (heavy + span_s)
        lasts = prior * heavy * log(1 + span_s / heavy)
        first = _bin(age_s)
        for index in range(first, _BINS):
            weight = self._bins[index]
            if weight:
                weight /= self._weight
                middle = _MIDDLES[index] if index > first else (age_s + _edge(first + 1)) / 2
                rest = middle - age_s
                if rest < span_s:
                    ends += weight
                    lasts += weight * rest
                else:
                    lasts += weight * span_s
        return ends, lasts

    def dump(self) -> list[float]:
        """The bins with the newest gap's weight as 1, ready for JSON."""
        return [round(weight / self._weight, 6) for weight in self._bins]

    def restore(self, bins: list[float]) -> None:
        """Take over a `dump`; ValueError when it is not one."""
        if len(bins) != _BINS or min(bins) < 0:
            raise ValueError(f"expected {_BINS} gap weights")
        self._bins = array("d", bins)
        self._weight = 1.0

    def _mass_above(self, age_s: float) -> float:
        """Weight of the gaps longer than `age_s`, the bin that holds it shared out evenly."""
        index = _bin(age_s)
        low, high = _edge(index), _edge(index + 1)
        part = max(0.0, (high - age_s) / (high - low))
        return sum(self._bins[index + 1 :]) + part * self._bins[index]


def _interpolate(sums: list[float], first: int, share: float) -> float:
    """The gap at the cumulative `share`; `sums` starts at the bin `first` and ends above zero."""
    target = share * sums[-1]
    index = bisect_left(sums, target)
    below = sums[index - 1] if index else 0.0
    low, high = _edge(first + index), _edge(first + index + 1)
    return low + (high - low) * (target - below) / (sums[index] - below)
