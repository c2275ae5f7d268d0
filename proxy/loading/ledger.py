"""Every prediction is scored, every decision is written down with its reason.

Theory of operation
-------------------
A prediction is open from when it is made until the first request for its model, until the model leaves
memory, or until `until` passes, whichever is first. Then it is, exactly once,

* ``hit``: acted upon, and the model was ready when the request came: the whole load time was saved;
* ``late``: acted upon, but still loading: the part of the load that had already run was saved;
* ``wasted``: acted upon, and nobody came: the load time was spent for nothing;
* ``suppressed``: not acted upon, with the reason; `came_true` says what acting would have been worth. In
  `observe` mode every prediction ends here, which is the estimate of what `predictive` would save.

At most one prediction for each model is open: while one is, others for the same model add nothing.

Decisions go to a ring of the last 512, for the status page and for ``pillion models why``.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from proxy.loading.predictor import Forecast

__all__ = ("Decision", "Ledger", "Outcome", "Prediction")

Outcome = Literal["hit", "late", "wasted", "suppressed"]

_RING = 512


class Decision(NamedTuple):
    """What was decided about a model at an instant, and why."""

    at: float
    model: str
    action: str
    why: str


@dataclass(slots=True)
class Prediction:
    """A forecast and what became of it. `load_s` is the expected load time when it was made."""

    forecast: Forecast
    made_at: float
    load_s: float
    suppressed: str = ""
    outcome: Outcome | None = None
    came_true: bool = False
    saved_s: float = 0.0


@dataclass(slots=True)
class _Totals:
    outcomes: Counter[str] = field(default_factory=Counter)
    saved_s: float = 0.0
    wasted_s: float = 0.0
    forgone_s: float = 0.0
    brier: float = 0.0
    scored: int = 0


class Ledger:
    """Open predictions, totals by cause, and the decision ring."""

    __slots__ = ("_open", "decisions", "totals")

    def __init__(self) -> None:
        self._open: dict[str, Prediction] = {}
        self.totals: dict[str, _Totals] = {}
        self.decisions: deque[Decision] = deque(maxlen=_RING)

    def note(self, at: float, model: str, action: str, why: str) -> None:
        """Write a decision down."""
        self.decisions.append(Decision(at, model, action, why))

    def why(self, model: str) -> list[Decision]:
        """Decisions about `model`, newest first."""
        return [decision for decision in reversed(self.decisions) if decision.model == model]

    @property
    def has_open(self) -> bool:
        """Whether any prediction awaits its outcome."""
        return bool(self._open)

    def is_open(self, model: str) -> bool:
        """Whether a prediction for `model` awaits its outcome."""
        return model in self._open

    def open(self, forecast: Forecast, now: float, load_s: float, suppressed: str = "") -> None:
        """A prediction is made; `suppressed` says why it is not acted upon, if it is not."""
        self._open.setdefault(forecast.model, Prediction(forecast, now, load_s, suppressed))

    def withdraw(self, model: str) -> Forecast | None:
        """The load for `model` made way for somebody who waits: the forecast, to be decided upon anew."""
        prediction = self._open.get(model)
        if prediction is None or prediction.suppressed:
            return None
        del self._open[model]
        return prediction.forecast

    def arrived(self, model: str, now: float, *, is_ready: bool) -> Prediction | None:
        """A request for `model` came; the prediction that it settles, if one was open."""
        prediction = self._open.pop(model, None)
        if prediction is None:
            return None
        prediction.came_true = True
        if prediction.suppressed:
            prediction.saved_s = 0.0 if is_ready else prediction.load_s
            return self._settle(prediction, "suppressed")
        prediction.saved_s = prediction.load_s
        if not is_ready:
            prediction.saved_s = min(prediction.load_s, max(0.0, now - prediction.made_at))
        return self._settle(prediction, "hit" if is_ready else "late")

    def gone(self, model: str) -> Prediction | None:
        """`model` left memory, or its load failed, before anybody came."""
        prediction = self._open.pop(model, None)
        if prediction is None:
            return None
        return self._settle(prediction, "suppressed" if prediction.suppressed else "wasted")

    def expired(self, now: float) -> list[Prediction]:
        """Predictions whose time has passed, settled."""
        over = [model for model, prediction in self._open.items() if prediction.forecast.until <= now]
        return [settled for model in over if (settled := self.gone(model)) is not None]

    def next_expiry(self) -> float:
        """When the next open prediction expires; `inf` when none is open."""
        if not self._open:
            return inf
        return min(prediction.forecast.until for prediction in self._open.values())

    def precision(self, cause: str) -> float | None:
        """Share of the predictions acted upon that came true; None before the first."""
        totals = self.totals.get(cause)
        if totals is None:
            return None
        true = totals.outcomes["hit"] + totals.outcomes["late"]
        acted = true + totals.outcomes["wasted"]
        return true / acted if acted else None

    def _settle(self, prediction: Prediction, outcome: Outcome) -> Prediction:
        prediction.outcome = outcome
        totals = self.totals.setdefault(prediction.forecast.cause, _Totals())
        totals.outcomes[outcome] += 1
        totals.scored += 1
        totals.brier += (prediction.forecast.probability - prediction.came_true) ** 2
        if outcome == "suppressed":
            totals.forgone_s += prediction.saved_s
        elif outcome == "wasted":
            totals.wasted_s += prediction.load_s
        else:
            totals.saved_s += prediction.saved_s
        return prediction
