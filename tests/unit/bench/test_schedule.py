from itertools import pairwise

import pytest

from bench.generator.schedule import constant, poisson


def test_a_constant_rate_has_no_drift() -> None:
    instants = list(constant(3.0, 100.0))
    assert len(instants) == 300
    assert instants[0] == 0
    assert instants[299] == 299 / 3.0


def test_poisson_arrivals_keep_their_rate_and_their_seed() -> None:
    instants = list(poisson(200.0, 50.0, seed=3))
    assert instants == list(poisson(200.0, 50.0, seed=3)) != list(poisson(200.0, 50.0, seed=4))
    assert instants == sorted(instants)
    assert instants[-1] < 50
    assert len(instants) == pytest.approx(10_000, rel=0.05)


def test_poisson_gaps_are_exponential() -> None:
    gaps = [after - before for before, after in pairwise(poisson(100.0, 200.0, seed=5))]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.01, rel=0.05)
    longer = sum(gap > mean for gap in gaps) / len(gaps)
    assert longer == pytest.approx(0.3679, abs=0.02)
