"""The simulator: waits, memory, determinism; and what the comparison shows."""

from __future__ import annotations

from math import inf
from xml.etree import ElementTree as ET

import pytest

from proxy.loading.actions import Report
from proxy.loading.chart import plot
from proxy.loading.comparison import compare, contestants, table
from proxy.loading.history import Arrival, History
from proxy.loading.planner import Planner
from proxy.loading.simulate import Model, Result, Simulation, assign, simulate
from tests.unit.loading.worlds import GIB, policy

Trace = list[Arrival]


def same(_name: str) -> Model:
    return Model(10.0, GIB)


def run(trace: Trace, places: int = 2, **changes: object) -> Result:
    return simulate(trace, policy(budget=places * GIB, **changes), same)


def test_assigns_by_name_within_the_measured_range() -> None:
    models = {name: assign(name) for name in (f"m{n}" for n in range(200))}
    assert models["m7"] == assign("m7")
    assert {model.size for model in models.values()} == {2_100_000_000, 4_300_000_000, 6_900_000_000}
    assert 2.6 <= min(m.load_s for m in models.values()) < 6
    assert 38 < max(m.load_s for m in models.values()) <= 42.0


def test_a_cold_request_waits_for_its_load_and_a_warm_one_does_not() -> None:
    result = run([(0, "a", 1), (2, "a", 1), (100, "a", 1)])
    assert result.waits == [10.0, 8.0]
    assert (result.requests, result.loads, result.load_s) == (3, 1, 10.0)
    assert result.cold_rate == pytest.approx(2 / 3)
    assert result.mean_wait == pytest.approx(6.0)
    assert result.wait_quantile(0.99) == 10.0
    assert result.wait_quantile(0.0) == 0.0
    assert result.model_cold_quantile(0.75) == pytest.approx(2 / 3)


def test_nothing_came() -> None:
    result = Result()
    assert (result.cold_rate, result.mean_wait, result.wait_quantile(0.5)) == (0.0, 0.0, 0.0)
    assert result.model_cold_quantile(0.5) == 0.0
    assert result.precision is None


def test_memory_is_held_from_the_start_of_a_load_to_the_unload() -> None:
    result = run([(0, "a", 0), (3600, "b", 0)], idle_unload=1800.0)
    assert result.gib_h == pytest.approx((10 + 1800) / 3600 + 10 / 3600, rel=0.01)
    assert result.peak == GIB


def test_models_push_each_other_out() -> None:
    result = run([(0, "a", 0), (20, "b", 0), (40, "a", 0)], places=1)
    assert (result.loads, result.churned) == (3, 1)
    assert result.waits == [10, 10, 10]


def test_what_can_never_fit_is_refused() -> None:
    result = simulate([(0, "a", 0)], policy(budget=GIB // 2), same)
    assert (result.refused, result.loads) == (1, 0)


def test_what_came_before_the_count_is_played_but_not_counted() -> None:
    result = simulate([(0, "a", 1), (50, "a", 1)], policy(budget=GIB), same, count_from=40.0)
    assert (result.requests, result.waits, result.loads) == (1, [], 1)


def test_stops_where_it_is_told() -> None:
    planner = Planner(policy(), History())
    result = Simulation(planner, same).run([(0, "a", 0), (100, "a", 0)], until=50)
    assert result.requests == 1


def test_a_load_that_hangs_is_cancelled_and_never_heard_of_again() -> None:
    history = History()
    history.of("a", 0.0).cost.measured(1.0)
    patient = policy().cold.model_copy(update={"max_wait": inf})
    simulation = Simulation(Planner(policy(cold=patient), history), lambda _: Model(100.0, GIB))
    result = simulation.run([(0.0, "a", 0.0), (50.0, "b", 0.0)])
    assert result.log[:3] == [(0.0, "Load a"), (30.0, "Refuse a"), (30.0, "Cancel a")]
    assert result.waits == [30.0, 100.0]


def test_a_simulation_goes_on_after_a_restart() -> None:
    before = Simulation(Planner(policy(budget=2 * GIB), History()), same)
    before.manage(["a", "b"], 0.0)
    before.run([(0.0, "a", 0.0), (100.0, "a", 0.0)])
    after = Simulation(Planner(policy(budget=2 * GIB, mode="predictive"), before.planner.history), same)
    after.manage(["a", "b"], 200.0)
    after.planner.backend.reconcile(
        {"a": Report("unloaded"), "b": Report("unloaded")}, after.planner.backend.mark(), 200.0
    )
    after.wake(200.0)
    assert after.run([(300.0, "a", 0.0)]).waits == []


def test_two_models_in_one_place_are_both_served() -> None:
    trace = [(0.5 * n, "ab"[n % 2], 0.4) for n in range(2000)]
    result = run(trace, places=1)
    assert len(result.waits) > 0
    assert result.refused == 0
    assert max(result.waits) < 150, "neither starves"


def busy(periods: dict[str, float], hours: float = 12.0) -> Trace:
    return sorted(
        (at, name, 0.1)
        for name, period in periods.items()
        for at in (period * n for n in range(int(hours * 3600 / period)))
    )


PERIODS = {"often": 30.0, "hourly": 3600.0, "half": 1800.0, "ten": 600.0, "seven": 420.0, "five": 300.0}


def test_the_same_trace_gives_the_same_actions() -> None:
    trace = busy(PERIODS)
    first, second = (run(trace, places=3, mode="predictive", idle_unload="auto") for _ in range(2))
    assert first.log == second.log
    assert len(first.log) > 50


def test_predictions_are_scored() -> None:
    result = run(busy(PERIODS, hours=48), places=9, mode="predictive", idle_unload="auto")
    assert result.outcomes["hit"] > 30
    assert result.precision is not None
    assert result.precision > 0.95


class TestComparison:
    def test_compares_everybody(self) -> None:
        trace = busy(PERIODS)
        rows = list(compare(trace, policy(budget=3 * GIB), same))
        assert [row.name for row in rows] == [
            "LRU",
            "GDSF",
            "TTL 5 min",
            "TTL 20 min",
            "TTL 60 min",
            "hybrid histogram",
            "clairvoyant",
            "pillion, demand",
            "pillion, predictive",
            "pillion, may evict",
        ]
        by_name = {row.name: row.result for row in rows}
        assert by_name["clairvoyant"].mean_wait <= by_name["LRU"].mean_wait
        lines = table(rows).splitlines()
        assert len(lines) == 2 + len(rows)
        assert lines[0].startswith("| policy | cold %")
        assert {line.count("|") for line in lines} == {lines[0].count("|")}

    def test_whoever_lets_predictions_evict_is_shown_without_that_too(self) -> None:
        assert "pillion, may evict" not in contestants([], policy(budget=3 * GIB, may_evict=True))
        assert "pillion, may evict" not in contestants([], policy())

    def test_plots_a_point_for_each(self) -> None:
        rows = list(compare(busy(PERIODS), policy(budget=3 * GIB), same))
        document = ET.fromstring(plot(rows, "a <b> & c"))
        circles = document.findall("{http://www.w3.org/2000/svg}circle")
        assert len(circles) == 10
        assert len({circle.get("fill") for circle in circles}) == 2
        for circle in circles:
            assert 70 <= float(circle.get("cx", 0)) <= 550
            assert 40 <= float(circle.get("cy", 0)) <= 370

    def test_plots_nothing_but_zeros(self) -> None:
        rows = list(compare([], policy(), same))
        assert "NaN" not in plot(rows, "empty")
