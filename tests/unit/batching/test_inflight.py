"""The learned limit, on windows of batches whose speed the test decides."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from proxy.batching.inflight import InflightLimit, Trip


class Backend:
    """Keeps `limit` batches in flight, on a backend that works on `parallelism` of them at once."""

    def __init__(self, parallelism: float, *, work_s: float = 0.01, demand: float = 1000) -> None:
        self.limiter = InflightLimit()
        self.parallelism = parallelism
        self.demand = demand
        self.work_s = work_s
        self.now = 0.0
        self.is_quick = False
        self._sent: deque[tuple[float, int]] = deque()

    def run(self, batches: int) -> int:
        """Let so many batches come back; the limit after that."""
        for _ in range(batches):
            while len(self._sent) < min(self.limiter.limit, self.demand):
                self._sent.append((self.now, len(self._sent)))
                self.limiter.started(self.now)
            # Everybody in flight shares the backend: one is done each work_s / (what runs at once).
            self.now += self.work_s / min(len(self._sent), self.parallelism)
            sent_at, company = self._sent.popleft()
            crowded = self.demand > self.limiter.limit
            trip = Trip(self.work_s, self.now - sent_at, company, crowded, self.is_quick)
            self.limiter.finished(self.now, trip)
        return self.limiter.limit


def test_it_starts_at_one() -> None:
    assert InflightLimit().limit == 1
    assert InflightLimit().work_rate == 1.0


@pytest.mark.parametrize("parallelism", [1, 2, 3, 4, 7, 16, 40])
def test_it_finds_what_the_backend_works_on_at_once(parallelism: int) -> None:
    backend = Backend(parallelism)
    assert backend.run(6000) == parallelism
    assert backend.limiter.work_rate == pytest.approx(parallelism, rel=0.05)


def test_it_never_exceeds_its_bound() -> None:
    assert Backend(500).run(6000) == 64


def test_a_backend_that_gains_little_from_company_is_left_alone() -> None:
    assert Backend(1.3).run(3000) == 1
    assert Backend(1.8).run(3000) == 2


def test_nothing_is_tried_while_nobody_waits() -> None:
    assert Backend(16, demand=1).run(500) == 1


def test_a_trial_beyond_the_demand_stands_if_nobody_was_slowed_down() -> None:
    assert Backend(16, demand=6).run(500) == 8


def test_nothing_is_scored_before_the_model_knows() -> None:
    limiter = InflightLimit()
    for count in range(200):
        limiter.started(float(count))
        limiter.finished(count + 0.5, Trip(0.0, 0.5, 0, is_crowded=True))
    assert limiter.limit == 1


def test_quick_batches_leave_the_limit_where_it_is() -> None:
    backend = Backend(16)
    backend.is_quick = True
    assert backend.run(500) == 1


def test_a_refusal_halves_the_limit() -> None:
    backend = Backend(16)
    backend.run(6000)
    backend.limiter.refused()
    assert backend.limiter.limit == 8
    for _ in range(5):
        backend.limiter.refused()
    assert backend.limiter.limit == 1


def test_it_grows_again_after_a_refusal_but_one_by_one() -> None:
    backend = Backend(16)
    backend.run(6000)
    backend.limiter.refused()
    seen = {backend.run(1) for _ in range(6000)}
    assert set(range(8, 17)) <= seen


def test_it_falls_when_the_backend_loses_replicas() -> None:
    backend = Backend(16)
    backend.run(6000)
    backend.parallelism = 2
    assert backend.run(6000) == 2


def test_it_falls_by_one_when_one_slot_is_of_no_use() -> None:
    backend = Backend(8)
    backend.run(6000)
    backend.parallelism = 7
    assert backend.run(20_000) == 7


def test_failed_trials_become_rare() -> None:
    backend = Backend(1)
    trials = []
    previous = 1
    for count in range(12_000):
        limit = backend.run(1)
        if limit > previous:
            trials.append(count)
        previous = limit
    pauses = [later - earlier for earlier, later in itertools.pairwise(trials)]
    assert pauses[:4] == sorted(pauses[:4])
    assert 64 * 30 <= max(pauses) <= 70 * 30


def test_a_batch_without_an_answer_only_frees_its_slot() -> None:
    limiter = InflightLimit()
    limiter.started(0.0)
    limiter.finished(1.0, None)
    limiter.started(1.0)
    limiter.finished(2.0, Trip(1.0, 0.0, 0, is_crowded=True))
    assert limiter.work_rate == 1.0
