from __future__ import annotations

from proxy.pooling.hedge import Hedge


def test_nothing_is_hedged_before_enough_was_seen() -> None:
    hedge = Hedge(0.05)
    for _ in range(31):
        hedge.observe(0.1)
    assert hedge.delay_s is None
    hedge.observe(0.1)
    assert hedge.delay_s == 0.1


def test_the_delay_is_the_95th_percentile_of_the_last_calls() -> None:
    hedge = Hedge(0.05)
    for index in range(256):
        hedge.observe(index / 1000)
    assert hedge.delay_s == 0.243
    for _ in range(256):
        hedge.observe(0.001)
    assert hedge.delay_s == 0.001


def test_copies_are_bounded_by_their_share() -> None:
    hedge = Hedge(0.05)
    copies = 0
    for _ in range(2000):
        hedge.observe(1.0)
        copies += hedge.take()
    assert copies == 101, "one to begin with, then one in twenty"


def test_unused_credit_allows_no_more_than_a_short_burst() -> None:
    hedge = Hedge(0.05)
    for _ in range(2000):
        hedge.observe(1.0)
    assert [hedge.take() for _ in range(6)] == [True] * 5 + [False]
