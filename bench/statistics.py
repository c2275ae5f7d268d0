"""What several interleaved rounds say: medians, their spread, and ratios formed round by round.

A shared machine drifts. Two systems measured one after the other within a round meet nearly the same machine,
so a ratio is formed in each round and its median taken; the ratio of two medians would mix rounds.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Spread", "interleaved", "ratio", "ratios", "spread")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the least and the greatest."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """value / base, round by round."""
    return [value / by for value, by in zip(values, base, strict=True)]


def ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """The spread of value / base, round by round."""
    return spread(ratios(values, base))


def interleaved(names: Sequence[str], rounds: int) -> list[str]:
    """A B C, then C B A, and so on: each follows each other, and a drift favours nobody."""
    order: list[str] = []
    for i in range(rounds):
        order += names if i % 2 == 0 else reversed(names)
    return order
