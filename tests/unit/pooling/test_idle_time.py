from __future__ import annotations

import pytest

from proxy.pooling.idle_time import REST_S, IdleTime, looks_like_restart


def rest(time: IdleTime, span_s: float = REST_S) -> None:
    """A rest that begins when the last one is over."""
    time.survived(max(0.0, time._rested_at) + span_s, span_s)


def trusted(configured_s: float = 30.0) -> IdleTime:
    time = IdleTime(configured_s)
    for _ in range(3):
        rest(time)
    return time


# ------------------------------------------------------------------ the limit
def test_the_configuration_holds_until_something_is_learned() -> None:
    time = IdleTime(30.0)
    assert time.limit_s == 30.0
    assert time.learned_s is None


def test_an_announced_time_is_taken_a_second_early() -> None:
    time = IdleTime(30.0)
    time.announced(5.0)
    time.announced(5.0)
    assert time.limit_s == time.learned_s == 4.0


def test_an_announcement_longer_than_configured_changes_nothing() -> None:
    time = IdleTime(30.0)
    time.announced(75.0)
    assert time.limit_s == 30.0


def test_a_very_short_announcement_leaves_half_a_second() -> None:
    time = IdleTime(30.0)
    time.announced(1.0)
    assert time.limit_s == 0.5


def test_observed_closings_set_the_limit_with_a_margin() -> None:
    time = IdleTime(30.0)
    time.closed(0.0, 5.0)
    assert time.limit_s == 4.0


def test_one_early_closing_among_many_does_not_rule() -> None:
    time = IdleTime(30.0)
    time.closed(0.0, 1.0)
    for _ in range(39):
        time.closed(0.0, 5.0)
    assert time.limit_s == 4.0, "the 5th percentile"


def test_observations_are_forgotten_after_ten_minutes() -> None:
    time = IdleTime(30.0)
    time.closed(0.0, 5.0)
    time.closed(400.0, 10.0)
    time.forget(599.0)
    assert time.limit_s == 4.0
    time.forget(600.0)
    assert time.limit_s == 8.0
    time.forget(1000.0)
    assert time.limit_s == 30.0


# ------------------------------------------------------------------ trust
def test_trust_takes_three_peaceful_rests() -> None:
    time = IdleTime(30.0)
    rest(time, REST_S / 2)
    for _ in range(3):
        assert not time.is_trusted
        rest(time)
    assert time.is_trusted


def test_rests_at_the_same_time_are_one() -> None:
    """A backend that stalls for a moment is silent on all its connections."""
    time = IdleTime(30.0)
    for _ in range(9):
        time.survived(1.0, REST_S)
    assert not time.is_trusted
    rest(time)
    rest(time)
    assert time.is_trusted


def test_a_breach_costs_trust_and_each_doubles_the_price() -> None:
    time = trusted()
    for price in (6, 12, 24, 48, 96, 96):
        time.closed(0.0, 0.001)
        for _ in range(price):
            assert not time.is_trusted
            rest(time)
        assert time.is_trusted


def test_breaches_while_untrusted_cost_the_rests_made_so_far() -> None:
    time = IdleTime(30.0)
    for _ in range(2):
        rest(time)
    time.closed(0.0, 0.001)
    for _ in range(3):
        assert not time.is_trusted
        rest(time)
    assert time.is_trusted


def test_a_breach_does_not_shorten_the_limit() -> None:
    time = trusted()
    time.closed(0.0, 0.001)
    assert time.limit_s == 30.0


# ------------------------------------------------------------------ calls that must not be sent twice
def test_right_after_an_answer_it_is_safe_unless_there_was_a_breach() -> None:
    time = trusted()
    assert time.is_safe(0.0)
    time.closed(0.0, 0.001)
    assert not time.is_safe(0.0)
    time.forget(599.0)
    assert not time.is_safe(0.0)
    time.forget(600.0)
    assert time.is_safe(0.0)


def test_a_rest_is_safe_once_others_have_survived_it() -> None:
    time = trusted()
    assert not time.is_safe(REST_S)
    rest(time, 3.0)
    assert time.is_safe(2.3)
    assert not time.is_safe(2.5)


def test_after_a_breach_no_rest_is_safe() -> None:
    """Whoever was stalled between its answer and its close looks peaceful until it runs again."""
    time = trusted()
    rest(time, 3.0)
    time.closed(0.0, 0.001)
    for _ in range(9):
        rest(time, 3.0)
    assert not time.is_safe(1.0)
    time.forget(600.0)
    assert time.is_safe(1.0)


def test_nothing_is_safe_with_a_backend_that_closes_within_what_a_stalled_machine_hides() -> None:
    time = trusted()
    rest(time, 3.0)
    time.closed(0.0, 0.4)
    assert not time.is_safe(0.0)
    time.forget(600.0)
    assert time.is_safe(0.0)
    time.closed(601.0, 0.5)
    assert time.is_safe(0.0)


def test_nothing_is_safe_near_the_earliest_close() -> None:
    time = trusted()
    rest(time, 10.0)
    time.closed(0.0, 5.0)
    assert time.is_safe(3.9)
    assert not time.is_safe(4.1)


def test_what_was_survived_before_a_close_counts_no_further_than_the_close() -> None:
    time = trusted()
    rest(time, 10.0)
    time.closed(0.0, 2.0)
    assert time.is_safe(1.5)
    time.forget(600.0)
    assert time.is_safe(1.5)
    assert not time.is_safe(1.7)


def test_nothing_beyond_the_limit_is_safe() -> None:
    time = trusted(2.0)
    rest(time, 10.0)
    assert time.is_safe(2.0)
    assert not time.is_safe(2.1)


# ------------------------------------------------------------------ restarts
@pytest.mark.parametrize(
    ("ages", "idle_before", "verdict"),
    [
        ((0.1, 2.0, 7.0), 4, True),
        ((0.1, 7.0), 2, False),  # too few to say
        ((0.1, 2.0, 7.0), 10, False),  # most are still there
        ((5.0, 5.01, 5.02), 3, False),  # one timer
        ((29.0, 30.0, 31.0), 3, False),  # one timer with some slack
    ],
)
def test_a_restart_closes_connections_of_all_ages(
    ages: tuple[float, ...], idle_before: int, verdict: bool
) -> None:
    assert looks_like_restart(ages, idle_before) is verdict
