"""When an open loop sends: instants since the start, in ascending order."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("constant", "poisson")


def constant(rate: float, seconds: float) -> Iterator[float]:
    """Every 1/`rate` seconds; each instant is computed by itself, so that no error adds up."""
    return (i / rate for i in range(int(rate * seconds)))


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Independent arrivals, `rate` a second on average: exponential gaps, the same for the same `seed`."""
    chance = random.Random(seed)
    gaps = (chance.expovariate(rate) for _ in itertools.count())
    return itertools.takewhile(lambda instant: instant < seconds, itertools.accumulate(gaps))
