"""Load times and sizes: what is believed before, between and after measurements."""

import pytest

from proxy.loading.costs import LoadCost


def test_knows_nothing_but_defaults() -> None:
    cost = LoadCost()
    assert cost.seconds == 30.0
    assert cost.promise_s == 30.0
    assert cost.size == 1 << 30
    assert not cost.is_size_known
    assert cost.timeout_s == 600.0


def test_takes_the_declared_time() -> None:
    assert LoadCost(declared_s=200.0).seconds == 200.0
    assert LoadCost(declared_s=200.0).timeout_s == 800.0


def test_guesses_the_time_from_the_size_at_one_gigabyte_a_second() -> None:
    assert LoadCost(declared_size=4 * 10**9).seconds == 4.0


def test_the_first_measurement_replaces_the_prior() -> None:
    cost = LoadCost(declared_s=60.0)
    cost.measured(8.0)
    assert cost.seconds == 8.0
    assert cost.promise_s == 12.0


def test_later_measurements_move_the_mean_by_an_eighth() -> None:
    cost = LoadCost()
    cost.measured(8.0)
    cost.measured(16.0)
    assert cost.seconds == 9.0
    assert cost.promise_s == pytest.approx(9.0 + 2 * (2.0 + 0.25 * (8.0 - 2.0)))


def test_a_measured_load_hangs_after_four_times_its_worst() -> None:
    cost = LoadCost()
    cost.measured(100.0)
    assert cost.timeout_s == 4 * (100.0 + 4 * 25.0)
    quick = LoadCost()
    quick.measured(0.1)
    assert quick.timeout_s == 30.0


def test_declared_size_wins_over_reported() -> None:
    cost = LoadCost(declared_size=5)
    cost.reported(7)
    assert cost.size == 5
    cost.declare(None, None)
    assert cost.size == 7


def test_keeps_the_largest_reported_size() -> None:
    cost = LoadCost()
    cost.reported(7)
    cost.reported(3)
    assert cost.size == 7
    assert cost.is_size_known


def test_memory_that_ran_out_stretches_the_size_up_to_four_times() -> None:
    cost = LoadCost(declared_size=100)
    cost.too_small()
    assert cost.size == 125
    for _ in range(20):
        cost.too_small()
    assert cost.size == 400


def test_survives_a_dump() -> None:
    cost = LoadCost()
    cost.measured(8.0)
    cost.measured(9.0)
    cost.reported(123)
    cost.too_small()
    copy = LoadCost()
    copy.restore(cost.dump())
    assert copy.dump() == cost.dump()
    assert (copy.seconds, copy.size) == (cost.seconds, cost.size)
