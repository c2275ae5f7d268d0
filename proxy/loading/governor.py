"""Keeps speculation honest: what does not come true is switched off, and its cost is bounded.

Theory of operation
-------------------
*Precision.* For each model and cause the predictions that were acted upon are counted: ``hits`` of
``tried``. With a Beta(1,1) prior the expected precision is (hits + 1) / (tried + 2); when, after five
tries, it is below `min_precision`, this cause is off for that model for an hour, then for two, up to a day.
After each pause it may try once: the counts restart at the brink, so that one more miss switches it off
again and one hit clears it.

*Share.* Speculative loads draw their expected seconds from an allowance that grows by `max_share` for each
second of wall time, up to ten minutes' worth of loads. A hit returns what it drew, since the load would
have been needed anyway; waste stays spent. The allowance may go below zero by one load, lest a model slower
than the cap never be loaded.

*Pressure.* While requests are slower than usual, loading on the same machine makes it worse. Each model's
service time is compared with its own slow average; the mean ratio of recent requests above 1.5 pauses
speculation. Requests are told of together, at most once a second for each model. Those that ran beside a load
are not told of: a server that answers nobody while it loads would seem overloaded by every load, and the
loads that were put off for it would come all the same, with somebody waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

__all__ = ("Governor",)

_LEAST_TRIED = 5
_HALVE_AT = 40
_PAUSE_S, _PAUSE_MOST_S = 3600.0, 86400.0
_ALLOWANCE_S = 600.0
_TOO_SLOW = 1.5
_FAST, _SLOW = 0.1, 0.01
_LEAST_SERVED = 100


@dataclass(slots=True)
class _Record:
    hits: int = 0
    tried: int = 0
    off_until: float = 0.0
    pause_s: float = _PAUSE_S


class Governor:
    """Admission of speculative loads."""

    __slots__ = (
        "_allowance",
        "_baselines",
        "_min_precision",
        "_pressure",
        "_records",
        "_served",
        "_share",
        "_stamp",
    )

    def __init__(self, max_share: float, min_precision: float) -> None:
        self._share = max_share
        self._min_precision = min_precision
        self._records: dict[tuple[str, str], _Record] = {}
        self._allowance = _ALLOWANCE_S
        self._stamp: float | None = None
        self._baselines: dict[str, float] = {}
        self._pressure = 1.0
        self._served = 0

    @property
    def pressure(self) -> float:
        """Recent service time over the usual one; 1 is usual."""
        return self._pressure

    def precision(self, model: str, cause: str) -> float:
        """Expected share of this model's predictions that come true."""
        record = self._records.get((model, cause))
        return (record.hits + 1) / (record.tried + 2) if record else 0.5

    def bar(self, model: str, cause: str, now: float) -> str:
        """Why forecasts of this cause are switched off for `model`; empty when they are not."""
        record = self._records.get((model, cause))
        if record is None or now >= record.off_until:
            return ""
        return f"precision {self.precision(model, cause):.2f} below {self._min_precision:.2f}"

    def strain(self, now: float) -> str:
        """Why nothing should be loaded ahead at the moment; empty when it may. It passes."""
        if self._pressure > _TOO_SLOW and self._served >= _LEAST_SERVED:
            return f"backend {self._pressure:.1f} times slower than usual"
        self._accrue(now)
        if self._allowance <= 0:
            return f"unused loads exceed {self._share:.0%} of the time"
        return ""

    def began(self, load_s: float, now: float) -> None:
        """A speculative load that takes `load_s` starts."""
        self._accrue(now)
        self._allowance -= load_s

    def settled(self, key: tuple[str, str], now: float, *, is_hit: bool, load_s: float) -> None:
        """The prediction of `key` (model, cause) came true or not; `load_s` is what it drew."""
        record = self._records.setdefault(key, _Record())
        record.tried += 1
        if record.tried >= _HALVE_AT:  # or a good past would excuse a thousand misses
            record.tried //= 2
            record.hits //= 2
        if is_hit:
            record.hits += 1
            self._allowance = min(_ALLOWANCE_S, self._allowance + load_s)
        if record.tried < _LEAST_TRIED:
            return
        if (record.hits + 1) / (record.tried + 2) >= self._min_precision:
            record.pause_s = _PAUSE_S
            return
        record.off_until = now + record.pause_s
        record.pause_s = min(_PAUSE_MOST_S, 2 * record.pause_s)
        # the trial after the pause starts at the brink: one miss is below the bar again, one hit above it
        record.tried = _LEAST_TRIED - 1
        record.hits = max(0, ceil(self._min_precision * (_LEAST_TRIED + 2)) - 2)

    def served(self, model: str, seconds: float, count: int = 1) -> None:
        """The backend took `seconds` for each of `count` requests of `model`; O(1)."""
        usual = self._baselines.get(model)
        if usual is None:
            self._baselines[model] = seconds
            return
        ratio = min(10.0, seconds / max(usual, 1e-6))
        self._pressure += (1 - (1 - _FAST) ** count) * (ratio - self._pressure)
        self._baselines[model] = usual + (1 - (1 - _SLOW) ** count) * (seconds - usual)
        self._served += count

    def _accrue(self, now: float) -> None:
        if self._stamp is not None and now > self._stamp:
            self._allowance = min(_ALLOWANCE_S, self._allowance + self._share * (now - self._stamp))
        self._stamp = now if self._stamp is None else max(self._stamp, now)
