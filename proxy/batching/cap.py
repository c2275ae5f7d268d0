"""How many items a batch may carry, from what is known about the backend.

Theory of operation
-------------------
Larger batches spread the cost of a call over more items, but each item waits for all of its batch. With
T(W) = a + b·W there are two good answers:

* With an objective (seconds for an answer) the largest W that ninety-five of a hundred times takes less than
  nine tenths of it.
* Without, the knee: the smallest W whose time for each item is within a tenth of the slope, and of the best
  that any allowed size can reach, a/W + b ≤ 1.1·b + a/most. Beyond it an item costs nearly the same and
  only waits longer.

Either is clamped to the operator's bounds. Until the model is settled the operator's starting value counts.

Where time does not follow size (the model is not linear) the cap is found by trial: a full batch within the
objective raises it by a twentieth, one beyond it lowers it by a tenth, and it never exceeds one and a half
times the largest size that was answered.

Under load every batch may be of one size, and then no slope can be seen. Once there is something to compare
with, a few batches are made a third as large, so that there is.

What the backend refuses (413, a limit in its metadata, an error that smaller batches do not get) is a
ceiling on everything else, below the operator's lower bound if need be. A ceiling that was inferred is
lifted by a tenth after every fifty full batches; one that the backend declared is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.batching.latency_model import LatencyModel

__all__ = ("ItemCap",)

_OBJECTIVE_SHARE = 0.9
_KNEE = 0.1
_RAISE = 1.05
_LOWER = 0.9
_BEYOND_PROVEN = 1.5
_FULL_BATCHES_TO_LIFT = 50
_LIFT = 1.1
_LEAST_SLOPE_S = 1e-9
_CONTRASTS = 6  # smaller batches sent for the sake of the slope


class ItemCap:
    """The bound on items in one batch: `items`.

    `start`, `least` and `most` are the operator's; `objective_s` is None without one.
    """

    __slots__ = (
        "_ceiling",
        "_contrasts",
        "_declared",
        "_fulls",
        "_learned",
        "_least",
        "_most",
        "_objective_s",
        "_proven",
        "items",
    )

    def __init__(self, start: int, least: int, most: int, objective_s: float | None = None) -> None:
        self._least = least
        self._most = most
        self._objective_s = objective_s
        self._learned = float(start)
        self._proven = start
        self._ceiling = math.inf
        self._declared = math.inf
        self._fulls = 0
        self._contrasts = _CONTRASTS
        self.items = start

    def answered(self, items: int, seconds: float, model: LatencyModel) -> None:
        """A batch of `items` was answered after `seconds`, which `model` may know about."""
        self._proven = max(self._proven, items)
        is_full = items >= self.items
        if is_full:
            self._lift()
        if model.is_settled:
            self._learn(seconds, model, is_full=is_full)
        self._settle()
        if not model.is_ready:
            self._contrasts = _CONTRASTS
        elif self._contrasts and items >= 3 and model.is_one_sided:
            self._contrasts -= 1
            self.items = items // 3

    def _learn(self, seconds: float, model: LatencyModel, *, is_full: bool) -> None:
        if model.is_linear:
            self._learned = self._best(model)
        elif self._objective_s is not None and seconds > self._objective_s:
            self._learned *= _LOWER
        elif is_full:
            self._learned = min(self._learned * _RAISE + 1, _BEYOND_PROVEN * self._proven)

    def refused(self, items: int) -> None:
        """The backend does not take `items` at once: half as many from now on."""
        self.limit_to(max(1, items // 2))

    def limit_to(self, items: int) -> None:
        """More than `items` at once have proved to fail."""
        self._ceiling = max(1, items)
        self._fulls = 0
        self._settle()

    def declare(self, items: int | None) -> None:
        """The backend's own limit, from its metadata; None: it has none or does not say."""
        self._declared = math.inf if items is None else items
        self._settle()

    def _best(self, model: LatencyModel) -> float:
        if self._objective_s is not None:
            spare_s = _OBJECTIVE_SHARE * self._objective_s - model.p95_s(0)
            return spare_s / max(model.item_s, _LEAST_SLOPE_S)
        return model.base_s / (_KNEE * model.item_s + model.base_s / self._most)

    def _lift(self) -> None:
        if self._ceiling < math.inf:
            self._fulls += 1
            if self._fulls >= _FULL_BATCHES_TO_LIFT:
                self._fulls = 0
                self._ceiling = self._ceiling * _LIFT + 1

    def _settle(self) -> None:
        self._learned = min(max(self._learned, self._least), self._most)
        self.items = max(1, int(min(self._learned, self._ceiling, self._declared)))
