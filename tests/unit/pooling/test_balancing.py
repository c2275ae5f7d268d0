from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from proxy.pooling.balancing import choose, ramp


@dataclass
class Endpoint:
    load: int = 0
    share: float = 1.0

    def weight(self, now: float) -> float:
        return self.share


def test_a_single_endpoint_needs_no_draw() -> None:
    only = Endpoint(load=9)
    assert choose([only], 0.0, lambda: pytest.fail("drew")) is only


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.0), (0.99, 0.0)])
def test_the_less_busy_of_two_wins(first: float, second: float) -> None:
    busy, free = Endpoint(load=3), Endpoint(load=1)
    values = iter((first, second))
    assert choose([busy, free], 0.0, lambda: next(values)) is free


def test_the_two_drawn_are_different() -> None:
    endpoints = [Endpoint(load=0), Endpoint(load=5), Endpoint(load=9)]
    for first in (0.0, 0.4, 0.9):
        for second in (0.0, 0.6):
            values = iter((first, second))
            picked = choose(endpoints, 0.0, lambda values=values: next(values))  # type: ignore[misc]
            assert picked is not endpoints[2], "the busiest can only win against itself"


def test_a_light_endpoint_gets_less() -> None:
    full, cold = Endpoint(load=5), Endpoint(load=0, share=0.1)
    values = iter((0.0, 0.0))
    assert choose([full, cold], 0.0, lambda: next(values)) is full


def test_equal_endpoints_get_equal_shares() -> None:
    random = Random(1)
    endpoints = [Endpoint(), Endpoint(), Endpoint()]
    counts = Counter(id(choose(endpoints, 0.0, random.random)) for _ in range(3000))
    assert all(800 < count < 1200 for count in counts.values())


def test_a_recovered_endpoint_ramps_up_in_thirty_seconds() -> None:
    assert ramp(100.0, 100.0) == 0.01
    assert ramp(100.0, 115.0) == 0.5
    assert ramp(100.0, 130.0) == 1.0
    assert ramp(100.0, 900.0) == 1.0


def test_an_endpoint_that_was_never_away_does_not_ramp() -> None:
    assert ramp(float("-inf"), 0.0) == 1.0
