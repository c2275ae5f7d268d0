from __future__ import annotations

import pytest

from proxy.pooling.sizing import Sizing


def run(sizing: Sizing, *peaks: int, start: float = 0.0) -> float:
    now = start
    for peak in peaks:
        now += 1.0
        sizing.tick(now, peak)
    return now


def test_without_traffic_the_target_is_the_least() -> None:
    sizing = Sizing(10, 100)
    run(sizing, 0, 0, 0)
    assert sizing.target == 10


def test_the_least_never_exceeds_the_most() -> None:
    assert Sizing(10, 4).target == 4


def test_the_target_covers_the_peak_and_a_burst_at_once() -> None:
    sizing = Sizing(10, 100)
    run(sizing, 40)
    assert sizing.target == 42 + 4, "1.05 x 40 and twice the square root of the smoothed use (4)"


def test_the_target_stays_within_the_most() -> None:
    sizing = Sizing(10, 50)
    run(sizing, 200)
    assert sizing.target == 50


def test_a_peak_counts_for_ten_seconds() -> None:
    sizing = Sizing(0, 100)
    run(sizing, 40, *[0] * 9)
    assert sizing.target >= 42
    run(sizing, 0, start=10.0)
    assert sizing.target == 0


def test_nothing_is_closed_soon_after_growing() -> None:
    sizing = Sizing(0, 100)
    now = run(sizing, 40, *[0] * 20)
    assert sizing.surplus(now, idle=40, leased=0) == 0


def test_half_of_the_surplus_is_closed_every_five_seconds() -> None:
    sizing = Sizing(4, 100)
    now = run(sizing, 40, *[0] * 40)
    assert sizing.surplus(now, idle=40, leased=0) == 18
    assert sizing.surplus(now + 4, idle=22, leased=0) == 0
    assert sizing.surplus(now + 5, idle=22, leased=0) == 9
    assert sizing.surplus(now + 10, idle=5, leased=0) == 1
    assert sizing.surplus(now + 15, idle=4, leased=0) == 0


def test_spare_connections_beside_the_busy_ones_are_no_surplus() -> None:
    sizing = Sizing(10, 100)
    now = run(sizing, *[5] * 40)
    assert sizing.surplus(now, idle=10, leased=60) == 0
    assert sizing.surplus(now, idle=12, leased=60) == 1


@pytest.mark.parametrize(
    ("idle_limit_s", "calls_per_s", "spare"),
    [(30.0, 0.0, 10), (4.0, 0.0, 1), (4.0, 0.25, 1), (4.0, 0.5, 10), (5.0, 0.1, 1)],
)
def test_an_impatient_backend_is_kept_warm_only_while_it_is_asked(
    idle_limit_s: float, calls_per_s: float, spare: int
) -> None:
    assert Sizing(10, 100).spare(idle_limit_s, calls_per_s) == spare


def test_no_spare_is_wanted_where_none_is_configured() -> None:
    assert Sizing(0, 100).spare(4.0, 0.0) == 0
