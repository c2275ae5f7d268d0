"""What ten models are asked for on one afternoon: two all the time, six by timers, two now and then.

Theory of operation
-------------------
`traffic` makes one endless process from a seed and cuts a span out of it, so that what a history has
learned before an instant goes on after it: timers keep their phase. Instants are seconds; zero is when a
live run begins.

A request is a *first* one when its model was not asked for in the ten seconds before it: that is who waits
for loads, whoever comes after it finds the model there."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("Roles", "Shot", "traffic")

QUIET_S = 10.0
HOT_RATE = 6.0
STRAY_MEAN_S = 45.0
JITTER_S = 0.5
BURST_S = 0.25


class Shot(NamedTuple):
    """One request; `is_first` after a silence."""

    at_s: float
    model: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class Roles:
    """Which models are asked all the time, by a timer, or now and then."""

    hot: tuple[str, ...]
    timers: tuple[str, ...]
    strays: tuple[str, ...]

    def period_s(self, timer: str) -> float:
        """Seconds between two shots of a timer; no two have the same."""
        return 36.0 + 2.5 * self.timers.index(timer)


def traffic(
    roles: Roles, since_s: float, until_s: float, *, hot_rate: float = HOT_RATE, seed: int = 1
) -> list[Shot]:
    """The requests between two instants, in order."""
    arrivals = [
        *(shot for model in roles.hot for shot in _poisson(model, 1 / hot_rate, since_s, until_s, seed)),
        *(
            shot
            for model in roles.timers
            for shot in _timer(model, roles.period_s(model), since_s, until_s, seed)
        ),
        *(shot for model in roles.strays for shot in _poisson(model, STRAY_MEAN_S, since_s, until_s, seed)),
    ]
    last: dict[str, float] = {}
    shots = []
    for at_s, model in sorted(arrivals):
        shots.append(Shot(at_s, model, at_s - last.get(model, since_s - QUIET_S) >= QUIET_S))
        last[model] = at_s
    return shots


def _poisson(model: str, mean_s: float, since_s: float, until_s: float, seed: int) -> list[tuple[float, str]]:
    chance = random.Random(f"{seed} {model}")
    arrivals = []
    at_s = since_s + chance.expovariate(1 / mean_s)
    while at_s < until_s:
        arrivals.append((at_s, model))
        at_s += chance.expovariate(1 / mean_s)
    return arrivals


def _timer(model: str, period_s: float, since_s: float, until_s: float, seed: int) -> list[tuple[float, str]]:
    """One to three requests at each shot."""
    phase_s = random.Random(f"{seed} {model}").uniform(0, period_s)
    arrivals = []
    for turn in range(int((since_s - phase_s) // period_s) + 1, int((until_s - phase_s) // period_s) + 1):
        chance = random.Random(f"{seed} {model} {turn}")
        at_s = phase_s + turn * period_s + chance.uniform(-JITTER_S, JITTER_S)
        arrivals += [(at_s + BURST_S * n, model) for n in range(chance.randint(1, 3))]
    return [(at_s, name) for at_s, name in arrivals if since_s <= at_s < until_s]
