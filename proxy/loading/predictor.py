"""Which model will be needed next, when, and how long an idle one is worth keeping.

Theory of operation
-------------------
Three kinds of forecast, each with the instant of the expected need and its probability:

* ``periodic``: the gaps longer than the present idle age are narrow (`gaps`): timers, crons, batch jobs.
  Re-examined as the model stays idle, so that bursts hide no longer rhythm. Every window is scored when the
  next request comes, acted upon or not, and a model is forecast only while at least 80 % of its recent
  windows held (five in a row, to begin with). The load ends one second before the window opens.
* ``successor``: another model has just been used after which, within a session, this one follows in at
  least 60 % of at least ten cases.
* ``seasonal``: the rhythm of the day or week alone (not the present rate: a model that is busy is resident)
  gives at least 0.3 within the horizon ``max(2 L, 60 s)`` from when a load begun now would end; at most
  once an hour.

There is no forecast from plain rates: on aperiodic traffic they add nothing (0.1 points of cold starts at
best with free memory) and do harm when memory is full, because the eviction score already keeps what is
often needed.

Hints of idleness go the other way. In `auto`, a model that a forecast will bring back leaves a minute
after its last request, if that is more than eight minutes and two loads away. Any other leaves when its
own gaps say that keeping it would cost more than 2,400 seconds of residency for each use it saves, and
after four hours in any case: a model without a past stays for ten minutes, a timer that shoots every
half hour stays for good. On a day of 200 public functions this needs 5 % less memory than a fixed 20
minutes, with fewer cold starts.

There is one pending timer for each model, in a heap; a request costs nothing here but a look-up.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import exp, inf, log
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.loading.history import History, ModelHistory

__all__ = ("Anticipation", "Cause", "Forecast", "Foresight", "Hint", "IdleHint", "horizon")

Cause = Literal["demand", "periodic", "seasonal", "successor", "boot", "preload", "manual", "foreign"]
"""Why a model is loaded; a metric label."""

LEAD_S = 1.0
"""A load is timed to end this long before the need."""

_CHECK_AGES = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0)
_WINDOW_AGES = (30.0, 300.0, 1800.0, 7200.0)
_LEAST_SUPPORT = 10
_LEAST_FOLLOW = 0.6
_LEAST_PROBABILITY = 0.3
_LEAST_EXPECTED = -log(1 - _LEAST_PROBABILITY)
_LEAST_HORIZON_S = 60.0
_LINGER_S = 60.0
_LONGEST_KEEP_S = 4 * 3600.0
_WORTH_KEEPING_S = 2400.0
_TRUSTED = 0.8
_FAR_S, _FAR_LOADS = 480.0, 2.0
_TICK_S = (
    1e-3  # an epoch in a double resolves 0.2 us: a timer may fire that much before the age it was set for
)


class Forecast(NamedTuple):
    """`model` will be needed at `at`, if at all by `until`."""

    model: str
    cause: Cause
    at: float
    until: float
    probability: float


class IdleHint(NamedTuple):
    """`model` has been idle for long enough to be unloaded."""

    model: str
    why: str


Hint = Forecast | IdleHint


class Anticipation(Protocol):
    """Whoever looks ahead: the production predictor, a baseline, nobody."""

    def arrived(self, model: str, now: float) -> list[Forecast]:
        """A request starts; forecasts that it triggers."""

    def ended(self, model: str, now: float) -> None:
        """The last request in flight for `model` ended, or the model was loaded and nobody uses it yet."""

    def advance(self, now: float) -> list[Hint]:
        """Whatever is due at `now`."""

    def next_at(self) -> float:
        """The instant of the next hint, `inf` when none is pending."""

    def seasonal(self, models: Iterable[str], now: float) -> list[Forecast]:
        """Which of the `models` the time of day calls for."""

    def is_expected(self, model: str, now: float) -> bool:
        """Whether `now` lies in the window in which `model` is expected."""

    def expected_at(self, model: str) -> float | None:
        """When `model` is expected next, if that is known."""


def horizon(load_s: float) -> float:
    """Span for which a load of `load_s` is judged."""
    return max(2 * load_s, _LEAST_HORIZON_S)


class Foresight:
    """The production predictor over a `History`."""

    __slots__ = ("_armed", "_heap", "_history", "_idle_unload", "_is_acted_on", "_last_seasonal", "windows")

    def __init__(
        self,
        history: History,
        idle_unload: Literal["off", "auto"] | float = "off",
        *,
        is_acted_on: bool = True,
    ) -> None:
        self._history = history
        self._idle_unload = idle_unload
        self._is_acted_on = is_acted_on
        self._heap: list[tuple[float, str]] = []
        self._armed: dict[str, float] = {}
        self._last_seasonal: dict[str, float] = {}
        self.windows: dict[str, tuple[float, float]] = {}

    # ------------------------------------------------------------- events
    def arrived(self, model: str, now: float) -> list[Forecast]:
        """A request for `model` starts: its window is over, its successors may be due."""
        past = self._history.models[model]
        window = self.windows.pop(model, None)
        if window is not None:
            past.scored(is_right=window[0] - self._lead(past) <= now <= window[1])
        if past.episodes < _LEAST_SUPPORT or not past.successors:
            return []
        follows = [(name, count / past.episodes) for name, count in past.successors.items()]
        return [self._successor(name, now, p) for name, p in follows if p >= _LEAST_FOLLOW]

    def ended(self, model: str, now: float) -> None:
        """`model` is idle from now on."""
        first = now + self._first_check_s()
        if self._armed.get(model, inf) > first:  # a timer that is due sooner finds out by itself
            self._arm(model, first)

    def advance(self, now: float) -> list[Hint]:
        """Forecasts and idle hints due at `now`."""
        hints: list[Hint] = []
        while self._heap and self._heap[0][0] <= now:
            when, model = heappop(self._heap)
            if self._armed.get(model) == when:
                del self._armed[model]
                hints += self._examine(model, self._history.models[model], now)
        return hints

    def next_at(self) -> float:
        """When `advance` next has something to look at."""
        return self._heap[0][0] if self._heap else inf

    def is_expected(self, model: str, now: float) -> bool:
        """Whether `model` is inside its predicted window, or so close that a load would not end before it."""
        window = self.windows.get(model)
        if window is None:
            return False
        return window[0] - self._lead(self._history.models[model]) <= now <= window[1]

    def expected_at(self, model: str) -> float | None:
        """When the window of `model` opens, while it is idle and periodic."""
        window = self.windows.get(model)
        return None if window is None else window[0]

    def seasonal(self, models: Iterable[str], now: float) -> list[Forecast]:
        """Models that the rhythm of the day or week calls for, each at most once an hour."""
        return [found for model in models if (found := self._seasonal(model, now)) is not None]

    # ------------------------------------------------------------- periodic and idle
    def _examine(self, model: str, past: ModelHistory, now: float) -> list[Hint]:
        age = now - past.last_end
        if age < self._first_check_s() - _TICK_S:  # used since
            self._arm(model, past.last_end + self._first_check_s())
            return []
        hints: list[Hint] = []
        window = past.gaps.window(age)
        due_at = inf
        if window is not None:
            opens = past.last_end + window.opens_s
            until = max(past.last_end + window.closes_s, opens + 2 * horizon(past.cost.seconds))
            self.windows[model] = (opens, until)
            due_at = opens - self._lead(past) if past.trust >= _TRUSTED else inf
            if due_at <= now + _TICK_S:
                hints.append(Forecast(model, "periodic", opens, until, past.trust))
                due_at = inf
        if not hints and (why := self._is_spent(past, age, due_at - now)):
            hints.append(IdleHint(model, why))
        self._arm_next(model, past.last_end, now, due_at)
        return hints

    def _arm_next(self, model: str, last_end: float, now: float, due_at: float) -> None:
        ages: tuple[float, ...] = (self._idle_unload,) if isinstance(self._idle_unload, float) else ()
        ages += _CHECK_AGES if self._idle_unload == "auto" else _WINDOW_AGES
        when = min([due_at, *(last_end + age for age in ages if last_end + age > now + _TICK_S)])
        if when < inf:
            self._arm(model, when)

    def _arm(self, model: str, when: float) -> None:
        self._armed[model] = when
        heappush(self._heap, (when, model))

    def _first_check_s(self) -> float:
        ttl = self._idle_unload
        return min(_CHECK_AGES[0], ttl) if isinstance(ttl, float) else _CHECK_AGES[0]

    def _is_spent(self, past: ModelHistory, age: float, away_s: float) -> str:
        """Why a model that has been idle for `age` should go; empty when it should stay.

        `away_s` is the span until a forecast will bring it back, `inf` without one.
        """
        if isinstance(self._idle_unload, float):
            return f"idle for {age:.0f} s" if age >= self._idle_unload - _TICK_S else ""
        if self._idle_unload == "off" or age < _LINGER_S - _TICK_S:
            return ""
        if self._is_acted_on and _FAR_S + _FAR_LOADS * past.cost.promise_s < away_s < inf:
            return f"idle for {age:.0f} s, comes back in {away_s:.0f} s"
        ends, lasts = past.gaps.reuse(age, _LONGEST_KEEP_S)
        if age < _LONGEST_KEEP_S - _TICK_S and ends * _WORTH_KEEPING_S >= lasts:
            return ""
        return f"idle for {age:.0f} s, next use in about {lasts / ends:.0f} s"

    def _lead(self, past: ModelHistory) -> float:
        return past.cost.promise_s + LEAD_S

    # ------------------------------------------------------------- successor and seasonal
    def _successor(self, model: str, now: float, probability: float) -> Forecast:
        span = horizon(self._history.of(model, now).cost.seconds)
        return Forecast(model, "successor", now, now + span, probability)

    def _seasonal(self, model: str, now: float) -> Forecast | None:
        past = self._history.models.get(model)
        if past is None:
            return None
        span = horizon(past.cost.seconds)
        if 0.5 * past.seasonal_peak * span < _LEAST_EXPECTED:  # not at any hour: nearly all models
            return None
        at = now + self._lead(past)
        probability = 1 - exp(-0.5 * past.seasonal_rate(at) * span)
        if probability < _LEAST_PROBABILITY or now - self._last_seasonal.get(model, -inf) < 3600.0:
            return None
        self._last_seasonal[model] = now
        return Forecast(model, "seasonal", at, at + 2 * span, probability)
