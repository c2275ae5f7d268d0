"""What is learned is worth what it would be to know: the lanes against an oracle, on a simulated backend.

The oracle is the same former with the number of batches in flight fixed to what the backend can really work
on at once. The loads are light, medium, heavy and near the limit for each parallelism. Whoever comes to an idle
backend waits for nothing at all.
"""

from __future__ import annotations

import pytest

from proxy.batching.policy import BatchPolicy
from tests.support.simulation import Backend, simulate, simulate_crowd

pytestmark = pytest.mark.slow

LOADS = [
    (1, 100, 60),
    (1, 500, 20),
    (1, 1500, 10),
    (1, 3500, 10),
    (4, 400, 15),
    (4, 6000, 3),
    (4, 14000, 2),
    (16, 1600, 6),
    (16, 24000, 2),
    (16, 56000, 2),
]


@pytest.mark.parametrize(("parallelism", "rate", "seconds"), LOADS)
def test_a_learned_limit_is_within_a_tenth_of_a_known_one(parallelism: int, rate: int, seconds: int) -> None:
    backend = Backend(parallelism)
    known = simulate(BatchPolicy(inflight=parallelism), backend, rate, seconds)
    learned = simulate(BatchPolicy(), backend, rate, seconds)
    settled = seconds / 2
    assert learned.quantile(0.50, settled) <= 1.10 * known.quantile(0.50, settled)
    assert learned.quantile(0.99, settled) <= 1.10 * known.quantile(0.99, settled)
    assert len(learned.after(settled)) >= 0.95 * len(known.after(settled))


@pytest.mark.parametrize("parallelism", [1, 4, 16])
def test_nobody_waits_for_an_idle_backend(parallelism: int) -> None:
    traffic = simulate(BatchPolicy(), Backend(parallelism), 20, 60)
    free_at, waits = 0.0, []
    for arrived_at, latency, wait in sorted(traffic.calls):
        if arrived_at >= free_at:
            waits.append(wait)
        free_at = max(free_at, arrived_at + latency)
    assert len(waits) > 0.8 * len(traffic.calls)
    assert set(waits) == {0.0}


@pytest.mark.parametrize("callers", [8, 64])
def test_a_crowd_that_comes_straight_back_is_not_split(callers: int) -> None:
    crowd = simulate_crowd(BatchPolicy(), Backend(1), callers, 6)
    whole_s = 0.005 + 0.000_15 * callers
    assert len(crowd.after(3)) / 3 >= 0.8 * callers / (whole_s + 0.004)
    assert crowd.quantile(0.50, 3) <= 1.1 * (whole_s + 0.003)


def test_a_crowd_does_not_hide_that_the_backend_can_do_more() -> None:
    known = simulate_crowd(BatchPolicy(inflight=4), Backend(4), 64, 6)
    learned = simulate_crowd(BatchPolicy(), Backend(4), 64, 6)
    assert len(learned.after(3)) >= 0.9 * len(known.after(3))
