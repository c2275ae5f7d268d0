"""A trace of many models used in bursts, made from a seed: what a shared model server sees in weeks.

Its statistics follow what is published of a large generative-model service: one model in 87 gets a third of
the requests and twenty get nine tenths; within a burst the median gap is below a minute and one gap in twenty
exceeds an hour or so; traffic nearly stops for six hours a day."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.loading.history import Arrival

__all__ = ("bursts",)

_DAY = 86400.0
_QUIET_HOURS = range(9, 15)


def bursts(seed: int, *, days: int = 14, models: int = 87, requests: int = 26_800) -> list[Arrival]:
    """About `requests` arrivals in `days` days, sorted."""
    chance = random.Random(seed)
    weights = [1 / (rank + 1) ** 1.45 for rank in range(models)]
    arrivals: list[Arrival] = []
    for rank, weight in enumerate(weights):
        count = max(3, int(requests * weight / sum(weights)))
        arrivals += _one_model(chance, f"model-{rank:02d}", count, days * _DAY, is_steady=rank < 6)
    return sorted(arrivals)


def _one_model(
    chance: random.Random, name: str, count: int, span_s: float, *, is_steady: bool
) -> list[Arrival]:
    """Bursts at random times of day; some models appear only part-way through."""
    first = 0.0 if is_steady or chance.random() > 0.4 else chance.random() * 0.5 * span_s
    mean_burst = chance.choice((3, 5, 8, 15))
    arrivals: list[Arrival] = []
    for _ in range(max(1, count // mean_burst)):
        at = _awake(chance, first, span_s)
        for _ in range(min(200, 1 + int(chance.expovariate(1 / mean_burst)))):
            arrivals.append((at, name, min(60.0, chance.lognormvariate(1.5, 1.0))))
            at += chance.lognormvariate(4.0, 1.2)
    return arrivals


def _awake(chance: random.Random, first: float, last: float) -> float:
    """An instant of the day's busy hours; one in twenty of the quiet ones counts."""
    while True:
        at = first + chance.random() * (last - first)
        if int(at % _DAY / 3600) not in _QUIET_HOURS or chance.random() < 0.05:
            return at
