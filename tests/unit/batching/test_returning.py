"""Whether callers who were just answered are worth waiting for."""

from __future__ import annotations

import pytest

from proxy.batching.returning import Returns

FIXED_S = 0.010


def crowd(
    returns: Returns, batches: int, *, share: float = 1.0, span_s: float = 0.002, waiting: int = 0
) -> float:
    """That many batches of 64 land, of which a share comes back within the span; when the next one lands."""
    now = 0.0
    for _ in range(batches):
        returns.answered(64, now, waiting=waiting, base_s=FIXED_S)
        count = int(64 * share)
        for index in range(count):
            returns.came(1, now + span_s * (index + 1) / count)
        now += 1.0
    return now


def test_nobody_is_awaited_before_anything_is_known() -> None:
    returns = Returns()
    now = crowd(returns, 3)
    returns.came(1, now)
    assert not returns.is_awaited(now)
    assert returns.until == 0.0


def test_a_crowd_that_comes_straight_back_is_awaited_until_all_are_there() -> None:
    returns = Returns()
    now = crowd(returns, 8)
    returns.answered(64, now, waiting=1, base_s=FIXED_S)
    assert returns.until == pytest.approx(now + 1.25 * 0.002)
    for _ in range(63):
        returns.came(1, now + 0.001)
        assert returns.is_awaited(now + 0.001)
    returns.came(1, now + 0.001)
    assert not returns.is_awaited(now + 0.001)


def test_those_who_do_not_come_are_awaited_a_little_longer_than_usual() -> None:
    returns = Returns()
    now = crowd(returns, 8)
    returns.answered(64, now, waiting=1, base_s=FIXED_S)
    assert returns.is_awaited(now + 0.0024)
    assert not returns.is_awaited(now + 0.0026)


def test_waiting_costs_those_who_are_there_already() -> None:
    returns = Returns()
    now = crowd(returns, 8)
    returns.answered(64, now, waiting=64, base_s=FIXED_S)
    assert returns.is_awaited(now)
    returns.answered(64, now + 1, waiting=640, base_s=FIXED_S)
    assert not returns.is_awaited(now + 1)


@pytest.mark.parametrize(("share", "span_s"), [(0.25, 0.005), (1.0, 0.0045), (0.0, 0.002)])
def test_few_or_slow_callers_are_not_awaited(share: float, span_s: float) -> None:
    returns = Returns()
    now = crowd(returns, 8, share=share, span_s=span_s)
    returns.answered(64, now, waiting=32, base_s=FIXED_S)
    assert not returns.is_awaited(now)


def test_a_lone_caller_is_its_own_company() -> None:
    returns = Returns()
    for now in range(8):
        returns.answered(1, float(now), waiting=0, base_s=FIXED_S)
        returns.came(1, now + 0.001)
        assert not returns.is_awaited(now + 0.001)


def test_callers_who_take_to_leaving_are_soon_awaited_no_more() -> None:
    returns = Returns()
    now = crowd(returns, 8)
    for _ in range(12):
        returns.answered(64, now, waiting=20, base_s=FIXED_S)
        now += 1.0
    assert not returns.is_awaited(now - 1.0)


def test_without_a_known_fixed_cost_nothing_is_counted() -> None:
    returns = Returns()
    for now in range(8):
        returns.answered(64, float(now), waiting=0, base_s=0.0)
        returns.came(64, now + 0.001)
    returns.answered(64, 8.0, waiting=0, base_s=FIXED_S)
    assert not returns.is_awaited(8.0)
