"""The governor: precision, share, pressure."""

import pytest

from proxy.loading.governor import Governor

KEY = ("m", "periodic")


def governor(max_share: float = 0.1, min_precision: float = 0.3) -> Governor:
    return Governor(max_share, min_precision)


def settle(governed: Governor, outcomes: str, now: float = 0.0) -> None:
    """``+`` came true, ``-`` did not."""
    for outcome in outcomes:
        governed.settled(KEY, now, is_hit=outcome == "+", load_s=1.0)


def verdict(governed: Governor, model: str, cause: str, now: float) -> str:
    """Why a forecast is not acted upon; empty when it is."""
    return governed.bar(model, cause, now) or governed.strain(now)


def test_allows_what_it_does_not_know() -> None:
    assert verdict(governor(), *KEY, 0.0) == ""
    assert governor().precision(*KEY) == 0.5


def test_four_misses_are_not_enough() -> None:
    governed = governor()
    settle(governed, "----")
    assert verdict(governed, *KEY, 0.0) == ""


def test_the_fifth_miss_switches_off_for_an_hour() -> None:
    governed = governor()
    settle(governed, "-----")
    assert "precision" in verdict(governed, *KEY, 3599.0)
    assert verdict(governed, *KEY, 3600.0) == ""
    assert verdict(governed, "other", "periodic", 0.0) == ""
    assert verdict(governed, "m", "seasonal", 0.0) == ""


def test_a_miss_after_the_pause_switches_off_for_twice_as_long() -> None:
    governed = governor()
    settle(governed, "-----")
    settle(governed, "-", now=3600.0)
    assert verdict(governed, *KEY, 3600.0 + 7199.0) != ""
    assert verdict(governed, *KEY, 3600.0 + 7200.0) == ""


def test_the_pause_is_a_day_at_most() -> None:
    governed = governor()
    now = 0.0
    settle(governed, "-----")
    for _ in range(10):
        now += 86400.0
        settle(governed, "-", now)
    assert verdict(governed, *KEY, now + 86399.0) != ""
    assert verdict(governed, *KEY, now + 86400.0) == ""


def test_a_hit_after_the_pause_clears_it() -> None:
    governed = governor()
    settle(governed, "-----")
    settle(governed, "+", now=3600.0)
    assert verdict(governed, *KEY, 3600.0) == ""
    settle(governed, "----", now=3601.0)
    assert verdict(governed, *KEY, 3601.0 + 3599.0) != "", "the pause is an hour again"
    assert verdict(governed, *KEY, 3601.0 + 3600.0) == ""


def test_a_good_past_does_not_excuse_misses_for_ever() -> None:
    governed = governor()
    settle(governed, "+" * 1000)
    settle(governed, "-" * 60)
    assert verdict(governed, *KEY, 0.0) != ""


def test_unused_loads_are_bounded_by_their_share_of_time() -> None:
    governed = governor(max_share=0.1)
    governed.began(600.0, now=0.0)
    assert "10%" in verdict(governed, *KEY, 0.0)
    assert verdict(governed, *KEY, 10.0) == ""


def test_hits_give_their_load_back() -> None:
    governed = governor()
    governed.began(700.0, now=0.0)
    governed.settled(KEY, 0.0, is_hit=True, load_s=700.0)
    assert verdict(governed, *KEY, 0.0) == ""


def test_the_allowance_does_not_pile_up() -> None:
    governed = governor()
    assert verdict(governed, *KEY, 1.0) == ""
    governed.began(601.0, now=1e9)
    assert verdict(governed, *KEY, 1e9) != ""


def test_a_clock_that_steps_back_grants_nothing() -> None:
    governed = governor()
    governed.began(601.0, now=1000.0)
    assert verdict(governed, *KEY, 0.0) != ""
    assert verdict(governed, *KEY, 1000.0) != ""


def test_a_slow_backend_pauses_everything() -> None:
    governed = governor()
    for _ in range(200):
        governed.served("m", 0.010)
    assert verdict(governed, *KEY, 0.0) == ""
    for _ in range(50):
        governed.served("m", 0.030)
    assert governed.pressure > 1.5
    assert "slower" in verdict(governed, *KEY, 0.0)


def test_requests_told_of_together_weigh_as_many() -> None:
    together, apart = governor(), governor()
    for governed, count in ((together, 5), (apart, 1)):
        governed.served("m", 0.010)
        for _ in range(5 // count):
            governed.served("m", 0.030, count)
    assert together.pressure == pytest.approx(apart.pressure, rel=0.05)
    assert together.pressure > 1.5


def test_a_few_requests_prove_no_pressure() -> None:
    governed = governor()
    for seconds in (0.001, 0.1, 0.1, 0.1):
        governed.served("m", seconds)
    assert governed.pressure > 1.5
    assert verdict(governed, *KEY, 0.0) == ""


@pytest.mark.parametrize("bar", [0.1, 0.3, 0.5, 0.8])
def test_after_a_pause_the_next_outcome_decides_whatever_the_bar(bar: float) -> None:
    for outcome, allowed in (("+", True), ("-", bar <= 1 / 7)):
        governed = governor(min_precision=bar)
        settle(governed, "-" * 20)
        settle(governed, outcome, now=1e7)
        assert (verdict(governed, *KEY, 1e7) == "") is allowed
