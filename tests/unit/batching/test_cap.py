"""How many items a batch may carry."""

from __future__ import annotations

import pytest

from proxy.batching.cap import ItemCap
from proxy.batching.latency_model import LatencyModel


def line(base_s: float, item_s: float, times: int = 40) -> LatencyModel:
    model = LatencyModel()
    for _ in range(times):
        for items in (1, 100):
            model.observe(items, base_s + item_s * items, was_alone=True)
    return model


def crooked() -> LatencyModel:
    model = LatencyModel()
    for _ in range(20):
        for items, seconds in ((1, 0.010), (8, 0.050), (64, 0.012)):
            model.observe(items, seconds, was_alone=True)
    assert not model.is_linear
    return model


def test_the_operators_value_counts_until_something_is_known() -> None:
    cap = ItemCap(100, 25, 200)
    cap.answered(50, 0.01, LatencyModel())
    assert cap.items == 100


@pytest.mark.parametrize(
    ("base_s", "item_s", "expected"),
    [(0.005, 0.00015, 125), (0.001, 0.01, 25), (0.1, 0.000_001, 200)],
    ids=["knee", "least", "most"],
)
def test_without_an_objective_the_cap_is_the_knee(base_s: float, item_s: float, expected: int) -> None:
    cap = ItemCap(100, 25, 200)
    cap.answered(50, 0.01, line(base_s, item_s))
    assert cap.items == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(
    ("objective_s", "expected"), [(0.020, 86), (0.002, 25), (10.0, 200)], ids=["fits", "too tight", "ample"]
)
def test_an_objective_sets_the_cap(objective_s: float, expected: int) -> None:
    cap = ItemCap(100, 25, 200, objective_s)
    cap.answered(50, 0.01, line(0.005, 0.00015))
    assert cap.items == pytest.approx(expected, abs=2)


def test_an_objective_on_a_flat_backend_allows_the_most() -> None:
    cap = ItemCap(100, 25, 200, 0.020)
    cap.answered(50, 0.01, line(0.005, 0.0))
    assert cap.items == 200


def test_where_time_does_not_follow_size_the_cap_is_found_by_trial() -> None:
    cap, model = ItemCap(100, 25, 200, 0.020), crooked()
    cap.answered(100, 0.010, model)
    assert cap.items == 106
    cap.answered(50, 0.010, model)
    assert cap.items == 106
    cap.answered(106, 0.030, model)
    assert cap.items == 95


def test_a_trial_never_goes_far_beyond_what_was_answered() -> None:
    cap, model = ItemCap(30, 25, 10_000), crooked()
    for _ in range(30):
        cap.answered(cap.items, 0.010, model)
    grown = cap.items
    assert grown > 45
    beyond = ItemCap(30, 25, 10_000)
    for _ in range(30):
        beyond.answered(30, 0.010, model)
    assert beyond.items <= 45


def test_a_refusal_halves_the_cap_below_the_operators_bound_if_need_be() -> None:
    cap = ItemCap(100, 25, 200)
    cap.refused(100)
    assert cap.items == 50
    cap.refused(33)
    assert cap.items == 16
    cap.refused(1)
    assert cap.items == 1


def test_an_inferred_ceiling_is_lifted_after_many_full_batches() -> None:
    cap, model = ItemCap(100, 25, 200), LatencyModel()
    cap.limit_to(20)
    for _ in range(49):
        cap.answered(20, 0.01, model)
    assert cap.items == 20
    cap.answered(20, 0.01, model)
    assert cap.items == 23


def test_a_declared_limit_is_kept() -> None:
    cap = ItemCap(100, 25, 200)
    cap.declare(8)
    for _ in range(200):
        cap.answered(8, 0.01, line(0.1, 0.000_001))
    assert cap.items == 8
    cap.declare(None)
    assert cap.items == pytest.approx(200, abs=1)


def test_batches_of_one_size_are_varied_until_a_slope_can_be_seen() -> None:
    cap, model = ItemCap(100, 25, 200), LatencyModel()
    for _ in range(6):
        model.observe(60, 0.02, was_alone=True)
        cap.answered(60, 0.02, model)
    assert cap.items == 20
    for _ in range(4):
        model.observe(20, 0.01, was_alone=True)
        cap.answered(20, 0.01, model)
    assert cap.items > 20


def test_varying_ends_even_if_nothing_comes_of_it() -> None:
    cap, model = ItemCap(100, 25, 200), LatencyModel()
    for _ in range(20):
        model.observe(60, 0.02, was_alone=True)
        cap.answered(60, 0.02, model)
    assert cap.items >= 100
