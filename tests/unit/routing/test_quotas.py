from __future__ import annotations

import pytest

from proxy.errors import OverQuota
from proxy.routing.quotas import Quotas


def refused(quotas: Quotas, identity: bytes, now: float) -> float | None:
    """When to come back; None when the call was let in."""
    try:
        quotas.enter(identity, now)
    except OverQuota as error:
        return error.retry_after_s
    return None


def test_a_key_has_one_seconds_worth_at_once_and_then_its_rate() -> None:
    quotas = Quotas(4, 0)
    assert [refused(quotas, b"a", 0.0) for _ in range(5)] == [None, None, None, None, 0.25]
    assert refused(quotas, b"a", 0.125) == pytest.approx(0.125)
    assert refused(quotas, b"a", 0.25) is None
    assert [refused(quotas, b"a", 100.0) for _ in range(5)] == [None, None, None, None, 0.25]


def test_a_rate_below_one_still_lets_a_call_in() -> None:
    quotas = Quotas(0.5, 0)
    assert [refused(quotas, b"a", now) for now in (0.0, 1.0, 2.0)] == [None, 1.0, None]


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    quotas = Quotas(1, 0)
    assert [refused(quotas, b"a", now) for now in (10.0, 5.0, 6.0)] == [None, 1.0, None]


def test_a_key_holds_so_many_calls_until_one_ends() -> None:
    quotas = Quotas(0, 2)
    assert [refused(quotas, b"a", 0.0) for _ in range(3)] == [None, None, 1.0]
    quotas.leave(b"a")
    assert refused(quotas, b"a", 0.0) is None


def test_keys_do_not_share_and_callers_without_one_are_not_counted() -> None:
    quotas = Quotas(1, 1)
    assert [refused(quotas, key, 0.0) for key in (b"a", b"b", b"", b"", b"a")] == [
        None,
        None,
        None,
        None,
        1.0,
    ]
    quotas.leave(b"")


def test_a_call_that_enters_twice_counts_once() -> None:
    quotas = Quotas(1, 1)
    for identity in (b"a", b""):
        quotas.enter(identity, 0.0)
        quotas.retract(identity)
    assert [refused(quotas, b"a", 0.0) for _ in range(2)] == [None, 1.0]
    quotas.leave(b"a")
    assert refused(quotas, b"a", 0.0) == 1.0, "of its token nothing is left"
