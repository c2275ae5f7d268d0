"""What the past says about each model: rates, daily rhythm, gaps, successors. Constant time and space.

Theory of operation ------------------- Each request updates, in O(1) and within 4 KiB for a model (requests
within a second of the last that was taken are only counted, and added with the next):

* three decayed counters (10 min, 6 h, 3 d): ``c <- c exp(-dt/tau) + 1``. A counter divided by its tau is a
  rate; a model younger than tau divides by ``tau (1 - exp(-age/tau))`` instead, lest everything new look
  slow. The 3-day counter is the frequency of the eviction score: measured on public traces, shorter
  memories lose.
* two rhythm profiles, hour of the day (24 bins) and hour of the week (168): requests per hour, averaged
  over days or weeks with gain max(0.3, 1/cycles). The week counts from its 14th day on, the day from its
  second.
* the gap histogram (see `gaps`), whose gaps run from the last end to the next start.
* a successor table: within one session, which other model follows within 60 s. At most four successors a
  model, the rarest replaced when a fifth appears, the counts halved at 256 so that it adapts.

Instants are seconds since the Unix epoch as the caller sees them: a snapshot must mean the same after a
restart, and hours of the day need a wall. A clock that jumps back makes ``dt`` zero, never negative.

A bounded list of the latest arrivals (one a second and model at most) goes with the snapshot: replay reads
it.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from math import exp, inf
from typing import Any

from proxy.loading.costs import LoadCost
from proxy.loading.gaps import GapHistogram

__all__ = ("Arrival", "History", "HourProfile", "ModelHistory")

Arrival = tuple[float, str, float]
"""(instant, model, run time in seconds) of one request."""

_TAUS = (600.0, 6 * 3600.0, 3 * 86400.0)
_YOUNGEST_S = 60.0
_FOLLOW_S = 60.0
_TRUST_GAIN = 0.2
_SUCCESSORS = 4
_HALVE_AT = 256
_SESSIONS = 4096
_RECENT = 16_384
_RECENT_APART_S = 1.0
_VERSION = 1


class HourProfile:
    """Requests per hour for each hour of a cycle of `hours` (24: a day, 168: a week); `peak` is the most."""

    __slots__ = ("_bins", "_count", "_first", "_hour", "peak")

    def __init__(self, hours: int) -> None:
        self.peak = 0.0
        self._bins = array("f", bytes(4 * hours))
        self._hour = -1
        self._first = -1
        self._count = 0

    def add(self, now: float, count: int = 1) -> None:
        """Count `count` requests; O(1) but for the first of an hour, which closes the hours before."""
        hour = int(now // 3600)
        if hour > self._hour:
            self._roll(hour)
        self._count += count

    def cycles(self, now: float) -> int:
        """Whole cycles seen so far."""
        return 0 if self._first < 0 else max(0, int(now // 3600) - self._first) // len(self._bins)

    def rate(self, now: float) -> float:
        """Expected requests per second at `now`, interpolated between the middles of the hours."""
        position = now / 3600 - 0.5
        hour = int(position // 1)
        part = position - hour
        size = len(self._bins)
        return ((1 - part) * self._bins[hour % size] + part * self._bins[(hour + 1) % size]) / 3600

    def _roll(self, hour: int) -> None:
        size = len(self._bins)
        if self._hour < 0:
            self._first = hour
        else:
            gain = max(0.3, 1 / (1 + self.cycles(self._hour * 3600.0)))
            self._fold(self._hour % size, self._count, gain)
            silent = hour - self._hour - 1
            for index in range(size if silent >= size else 0):
                self._bins[index] *= (1 - gain) ** (silent // size)
            for later in range(self._hour + 1, self._hour + 1 + silent % size):
                self._fold(later % size, 0, gain)
        self._hour = hour
        self._count = 0
        self.peak = max(self._bins)

    def _fold(self, index: int, count: int, gain: float) -> None:
        self._bins[index] += gain * (count - self._bins[index])

    def dump(self) -> dict[str, Any]:
        """Ready for JSON."""
        bins = [round(value, 4) for value in self._bins]
        return {"bins": bins, "hour": self._hour, "first": self._first, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `dump`; KeyError, TypeError or ValueError when it is not one."""
        if len(state["bins"]) != len(self._bins):
            raise ValueError(f"expected {len(self._bins)} hours")
        self._bins = array("f", state["bins"])
        self.peak = max(self._bins)
        self._hour, self._first, self._count = int(state["hour"]), int(state["first"]), int(state["count"])


class ModelHistory:
    """The past of one model."""

    __slots__ = (
        "_counts",
        "_stamp",
        "cost",
        "day",
        "episodes",
        "first_seen",
        "gaps",
        "last_end",
        "recorded_at",
        "successors",
        "trust",
        "week",
    )

    def __init__(self, now: float, cost: LoadCost | None = None) -> None:
        self.cost = cost or LoadCost()
        self.first_seen = now
        self.last_end = now
        self.gaps = GapHistogram()
        self.day = HourProfile(24)
        self.week = HourProfile(168)
        self.recorded_at = -inf
        self.trust = 0.5
        self.episodes = 0
        self.successors: dict[str, int] = {}
        self._counts = (0.0, 0.0, 0.0)
        self._stamp = now

    def arrived(self, now: float, *, is_idle: bool, count: int = 1) -> None:
        """`count` requests start, the last one at `now`; `is_idle` says that no other is in flight. O(1)."""
        short, medium, long = self._decayed(now)
        was_used = self.is_used
        self._counts = (short + count, medium + count, long + count)
        self._stamp = max(self._stamp, now)
        self.day.add(now, count)
        self.week.add(now, count)
        if is_idle and was_used:
            self.gaps.add(max(0.0, now - self.last_end))

    def ended(self, now: float) -> None:
        """One request ends."""
        self.last_end = now

    @property
    def is_used(self) -> bool:
        """Whether any request was ever seen."""
        return self._counts[0] + self._counts[1] + self._counts[2] > 0

    def scored(self, *, is_right: bool) -> None:
        """A request came inside, or outside, the window in which it was expected."""
        self.trust += _TRUST_GAIN * (is_right - self.trust)

    def frequency(self, now: float) -> float:
        """Requests of the last three days, older ones fading."""
        return self._decayed(now)[2]

    def rate(self, now: float) -> float:
        """Requests per second: the busiest of the three memories, or half of the rhythm's if that is more."""
        age = max(now - self.first_seen, _YOUNGEST_S)
        counts = self._decayed(now)
        busiest = max(c / (tau * (1 - exp(-age / tau))) for c, tau in zip(counts, _TAUS, strict=True))
        return max(busiest, 0.5 * self.seasonal_rate(now))

    @property
    def seasonal_peak(self) -> float:
        """Requests per second that the rhythm never exceeds."""
        return max(self.day.peak, self.week.peak) / 3600

    def seasonal_rate(self, now: float) -> float:
        """Requests per second that the rhythm of the day (after two weeks, of the week) expects."""
        if self.week.cycles(now) >= 2:
            return self.week.rate(now)
        return self.day.rate(now) if self.day.cycles(now) >= 2 else 0.0

    def began_episode(self) -> None:
        """A session turned to this model."""
        self.episodes += 1
        if self.episodes >= _HALVE_AT:
            self.episodes //= 2
            self.successors = {name: count // 2 for name, count in self.successors.items() if count > 1}

    def followed_by(self, name: str) -> None:
        """Within a session, `name` came next."""
        if name not in self.successors and len(self.successors) >= _SUCCESSORS:
            rarest = min(self.successors, key=self.successors.__getitem__)
            del self.successors[rarest]
        self.successors[name] = self.successors.get(name, 0) + 1

    def _decayed(self, now: float) -> tuple[float, float, float]:
        dt = now - self._stamp
        short, medium, long = self._counts
        if dt <= 0:
            return short, medium, long
        return short * exp(-dt / _TAUS[0]), medium * exp(-dt / _TAUS[1]), long * exp(-dt / _TAUS[2])

    def dump(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "first_seen": self.first_seen,
            "last_end": self.last_end,
            "stamp": self._stamp,
            "counts": list(self._counts),
            "gaps": self.gaps.dump(),
            "day": self.day.dump(),
            "week": self.week.dump(),
            "trust": self.trust,
            "episodes": self.episodes,
            "successors": self.successors,
            "cost": self.cost.dump(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `dump`; KeyError, TypeError or ValueError when it is not one."""
        self.first_seen, self.last_end = float(state["first_seen"]), float(state["last_end"])
        self._stamp = float(state["stamp"])
        short, medium, long = (float(count) for count in state["counts"])
        self._counts = (short, medium, long)
        self.gaps.restore(state["gaps"])
        self.day.restore(state["day"])
        self.week.restore(state["week"])
        self.trust = float(state["trust"])
        self.episodes = int(state["episodes"])
        self.successors = {str(name): int(count) for name, count in state["successors"].items()}
        self.cost.restore(state["cost"])


class History:
    """The pasts of all models, the sessions that link them, and the latest arrivals."""

    __slots__ = ("_sessions", "models", "recent")

    def __init__(self) -> None:
        self.models: dict[str, ModelHistory] = {}
        self.recent: deque[Arrival] = deque(maxlen=_RECENT)
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def of(self, model: str, now: float) -> ModelHistory:
        """The past of `model`, begun at `now` when there is none."""
        past = self.models.get(model)
        if past is None:
            past = self.models[model] = ModelHistory(now)
        return past

    def ended(self, model: str, now: float, run_s: float) -> None:
        """One request for `model`, `run_s` long, ends."""
        past = self.of(model, now)
        if now - past.recorded_at >= _RECENT_APART_S:
            past.recorded_at = now
            self.recent.append((now - run_s, model, run_s))
        past.ended(now)

    def follow(self, model: str, session: str, now: float) -> None:
        """A request for `model` came within `session`; O(1)."""
        past = self.of(model, now)
        before, at = self._sessions.get(session, ("", 0.0))
        self._sessions[session] = (model, now)
        if before == model and now - at <= _FOLLOW_S:
            return
        past.began_episode()
        if before in self.models and before != model and now - at <= _FOLLOW_S:
            self.models[before].followed_by(model)
        self._sessions.move_to_end(session)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def dump(self) -> dict[str, Any]:
        """Ready for JSON; `restore` reads it back."""
        return {
            "version": _VERSION,
            "models": {name: past.dump() for name, past in self.models.items()},
            "recent": [[round(at, 3), name, round(run_s, 3)] for at, name, run_s in self.recent],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `dump`; ValueError when it is not one, and then nothing was taken over."""
        try:
            if state["version"] != _VERSION:
                raise ValueError(f"history of version {state['version']}, expected {_VERSION}")
            models = {}
            for name, one in state["models"].items():
                models[str(name)] = past = ModelHistory(0.0)
                past.restore(one)
            recent = [(float(at), str(name), float(run_s)) for at, name, run_s in state["recent"]]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a history: {error!r}") from error
        self.models = models
        self.recent = deque(recent, maxlen=_RECENT)
