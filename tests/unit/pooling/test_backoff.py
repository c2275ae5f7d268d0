from __future__ import annotations

import pytest

from proxy.pooling.backoff import Backoff, backoff_s


@pytest.mark.parametrize(
    ("failures", "span_s"), [(1, 0.05), (2, 0.1), (3, 0.2), (7, 3.2), (8, 5.0), (10_000, 5.0)]
)
def test_the_span_doubles_up_to_the_bound(failures: int, span_s: float) -> None:
    assert backoff_s(failures, 0.05, 5.0) == pytest.approx(span_s)


def test_jitter_draws_from_the_whole_span() -> None:
    backoff = Backoff(1.0, 8.0)
    assert backoff.failed(0.0) == 0.0
    assert backoff.failed(0.5) == 1.0
    assert backoff.failed(0.999) == pytest.approx(3.996)


def test_a_success_starts_over() -> None:
    backoff = Backoff(1.0, 8.0)
    for _ in range(5):
        backoff.failed(1.0)
    assert backoff.failures == 5
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.failed(1.0) == 1.0
