"""The bound that a measured latency is judged by."""

from __future__ import annotations

import pytest

from bench.bounds import Costs, best_p50_ms, fitted


def test_a_line_is_found_again() -> None:
    costs = fitted({1: 10.2, 16: 13.2, 64: 22.8})
    assert costs.call_ms == pytest.approx(10.0)
    assert costs.item_ms == pytest.approx(0.2)


def test_noise_makes_no_time_negative() -> None:
    assert fitted({1: 5.0, 2: 4.0}) == Costs(6.0, 0.0)
    assert fitted({1: 1.0, 10: 20.0}).call_ms == 0.0


def test_whoever_comes_alone_waits_for_nobody() -> None:
    assert best_p50_ms(Costs(10.0, 0.0), 1.0) == pytest.approx(10.0)


def test_in_a_stream_of_calls_one_waits_for_half_a_batch_and_then_for_ones_own() -> None:
    rate, costs = 1500.0, Costs(10.0, 0.12)
    cycle_ms = costs.call_ms / (1 - costs.item_ms * rate / 1e3)
    assert best_p50_ms(costs, rate) == pytest.approx(1.5 * cycle_ms, rel=0.03)
