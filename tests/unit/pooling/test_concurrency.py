from __future__ import annotations

import pytest

from proxy.pooling.concurrency import Gradient
from proxy.pooling.policy import ConcurrencyPolicy


def limiter(least: int = 4, most: int = 200) -> Gradient:
    return Gradient(ConcurrencyPolicy(mode="adaptive", least=least, most=most))


def feed(gradient: Gradient, span_s: float, count: int, in_flight: int | None = None) -> None:
    for _ in range(count):
        gradient.sample(span_s, gradient.limit if in_flight is None else in_flight)


@pytest.mark.parametrize(("least", "most", "start"), [(4, 200, 20), (30, 200, 30), (1, 8, 8)])
def test_it_starts_between_its_bounds(least: int, most: int, start: int) -> None:
    assert limiter(least, most).limit == start


def test_it_grows_while_latency_is_steady() -> None:
    gradient = limiter()
    feed(gradient, 0.1, 20)
    after_few = gradient.limit
    feed(gradient, 0.1, 2000)
    assert 20 < after_few < gradient.limit == 200


def test_it_shrinks_when_latency_rises() -> None:
    gradient = limiter()
    feed(gradient, 0.1, 300)
    before = gradient.limit
    feed(gradient, 1.0, 30)
    assert gradient.limit < before / 2


def test_a_rise_within_the_tolerance_is_no_reason_to_shrink() -> None:
    gradient = limiter()
    feed(gradient, 0.1, 300)
    before = gradient.limit
    feed(gradient, 0.14, 30)
    assert gradient.limit >= before


def test_it_never_leaves_its_bounds() -> None:
    gradient = limiter(least=10, most=30)
    feed(gradient, 0.01, 500)
    assert gradient.limit == 30
    for step in range(1, 60):
        gradient.sample(0.01 * 2**step, 30)
    assert gradient.limit >= 10


def test_a_limit_that_is_not_used_stays() -> None:
    gradient = limiter()
    feed(gradient, 0.1, 100, in_flight=5)
    feed(gradient, 5.0, 100, in_flight=5)
    assert gradient.limit == 20


def test_an_instant_answer_says_nothing() -> None:
    gradient = limiter()
    feed(gradient, 0.0, 10)
    assert gradient.limit == 20


def test_a_long_overload_does_not_excuse_the_next() -> None:
    gradient = limiter()
    feed(gradient, 0.1, 200)
    feed(gradient, 2.0, 3000)  # long enough to become the average
    feed(gradient, 0.1, 100)
    recovered = gradient.limit
    feed(gradient, 2.0, 20)
    assert gradient.limit < recovered / 2
