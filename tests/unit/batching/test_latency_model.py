"""What the latency model makes of observations."""

from __future__ import annotations

import random

import pytest

from proxy.batching.latency_model import LatencyModel


def warmed() -> LatencyModel:
    """A model past its cold start."""
    model = LatencyModel()
    for _ in range(2):
        model.observe(1, 99.0, was_alone=True)
    return model


def taught(*points: tuple[int, float], times: int = 10) -> LatencyModel:
    model = warmed()
    for _ in range(times):
        for items, seconds in points:
            model.observe(items, seconds, was_alone=True)
    return model


def test_nothing_is_known_before_a_few_observations() -> None:
    model = warmed()
    assert (model.count, model.expect_s(10), model.p95_s(10)) == (0, 0.0, 0.0)
    standing = []
    for _ in range(30):
        model.observe(1, 0.005, was_alone=True)
        standing.append((model.is_ready, model.is_settled, model.is_confident))
    assert [standing.index(stage) + 1 for stage in dict.fromkeys(standing)] == [1, 3, 10, 30]


def test_the_first_observations_after_a_start_do_not_count() -> None:
    model = taught((1, 0.005))
    assert model.expect_s(1) == pytest.approx(0.005)


def test_a_line_is_recovered_from_noise() -> None:
    model, chance = warmed(), random.Random(1)
    for _ in range(300):
        items = chance.randint(1, 100)
        model.observe(items, (0.005 + 0.00015 * items) * (1 + chance.gauss(0, 0.05)), was_alone=True)
    assert model.base_s == pytest.approx(0.005, rel=0.1)
    assert model.item_s == pytest.approx(0.00015, rel=0.1)
    assert model.spread_s == pytest.approx(0.05 * 0.0125, rel=0.4)
    assert model.p95_s(50) > model.expect_s(50)
    assert model.is_linear
    assert model.is_confident


def test_one_size_gives_no_slope_and_says_so() -> None:
    model = taught((10, 0.005))
    assert model.item_s == 0.0
    assert model.expect_s(1000) == pytest.approx(0.005)
    sides = [model.is_one_sided]
    for _ in range(3):
        model.observe(100, 0.050, was_alone=True)
        sides.append(model.is_one_sided)
    assert sides == [True, True, True, False]
    assert model.item_s == pytest.approx(0.0005, rel=0.01)


def test_time_that_falls_with_size_is_taken_for_flat() -> None:
    model = taught((1, 0.010), (64, 0.008))
    assert model.item_s == 0.0
    assert model.base_s == pytest.approx(0.009, rel=0.01)


def test_a_batch_never_costs_nothing() -> None:
    model = taught((1, 0.000_001), (100, 0.1))
    assert model.base_s > 0
    assert model.item_s <= 0.1 / 50


def test_a_pause_is_not_believed_but_a_change_is() -> None:
    model = taught((1, 0.005), (64, 0.010))
    before = model.expect_s(1)
    for _ in range(7):
        model.observe(1, 1.0, was_alone=True)
    assert model.expect_s(1) == before
    model.observe(1, 1.0, was_alone=True)
    assert model.expect_s(1) == pytest.approx(1.0)
    assert model.count == 1


def test_single_pauses_far_apart_never_add_up_to_a_change() -> None:
    model = taught((1, 0.005))
    for _ in range(20):
        model.observe(1, 1.0, was_alone=True)
        model.observe(1, 0.005, was_alone=True)
    assert model.expect_s(1) == pytest.approx(0.005)


def test_old_behaviour_is_forgotten_slowly() -> None:
    model = taught((10, 0.005), times=50)
    for _ in range(200):
        model.observe(10, 0.010, was_alone=True)
    assert model.expect_s(10) == pytest.approx(0.010, rel=0.1)


def test_crowded_batches_are_believed_only_for_want_of_better_ones() -> None:
    model = warmed()
    for _ in range(8):
        model.observe(10, 0.050, was_alone=False)
    assert model.count == 0
    for _ in range(40):
        model.observe(10, 0.050, was_alone=False)
    assert model.expect_s(10) == pytest.approx(0.050)
    assert not model.is_confident
    model.observe(10, 0.005, was_alone=True)
    assert model.count == 1
    model.observe(10, 0.050, was_alone=False)
    assert model.count == 1
    assert model.expect_s(10) == pytest.approx(0.005)


def test_time_that_does_not_follow_size_is_noticed() -> None:
    model = taught((1, 0.010), (8, 0.050), (64, 0.012), times=20)
    assert not model.is_linear


def test_a_flat_backend_counts_as_linear() -> None:
    model, chance = warmed(), random.Random(1)
    for _ in range(200):
        model.observe(chance.randint(1, 100), 0.010 * (1 + chance.gauss(0, 0.05)), was_alone=True)
    assert model.is_linear
