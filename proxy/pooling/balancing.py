"""Which endpoint gets the next call (pure).

Power of two choices: of two endpoints drawn at random the one with less to do wins. It needs no shared state,
never herds onto one endpoint, and its longest queue grows with log log n (Mitzenmacher 2001) where a random
choice grows with log n / log log n. "Less to do" is calls in flight divided by weight, which sees a slow
endpoint at once, because its calls pile up, and costs no measurement.

Slow start: an endpoint that came back is cold (caches, JIT, model not resident). Its weight rises in a
straight line from 1 % to 100 % over thirty seconds. It does not apply when the proxy itself starts, where all
are equally cold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("Candidate", "choose", "ramp")

_RAMP_S: Final = 30.0
_RAMP_FLOOR: Final = 0.01


class Candidate(Protocol):
    """What the choice needs to know of an endpoint."""

    @property
    def load(self) -> int:
        """Calls in flight or waiting for a connection."""

    def weight(self, now: float) -> float:
        """The share of a full load that it should get, in (0, 1]."""


M = TypeVar("M", bound=Candidate)


def ramp(recovered_at: float, now: float) -> float:
    """The weight at `now` of an endpoint that came back at `recovered_at` (-inf: never away)."""
    return min(1.0, max(_RAMP_FLOOR, (now - recovered_at) / _RAMP_S))


def choose(candidates: Sequence[M], now: float, random: Callable[[], float]) -> M:
    """The better of two of the (at least one) `candidates`; `random` draws from [0, 1)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    one_load = (one.load + 1) / one.weight(now)
    return one if one_load <= (other.load + 1) / other.weight(now) else other
