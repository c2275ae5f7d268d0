"""Lanes that wait for callers who come straight back, and many lanes at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from proxy.batching.cap import ItemCap
from proxy.batching.profile import Profile
from proxy.batching.queueing import Lane
from tests.support.formers import WINDOW, eager, leave, make_lane, put

if TYPE_CHECKING:
    from proxy.batching.former import Former


def test_husks_do_not_outlive_their_lane() -> None:
    former, lane = eager(), make_lane()
    put(former, lane, 0.0)
    leave(former, 0.0)
    for _ in range(3):
        former.withdraw(put(former, lane, 0.0))
    assert not lane.tickets()
    first = put(former, lane, 0.0)
    put(former, lane, 0.001)
    former.withdraw(first)
    assert former.next_wakeup(0.001) == pytest.approx(0.050)  # a look too many, at which nothing leaves
    assert former.next_batch(0.0505) is None
    assert former.next_wakeup(0.0505) == pytest.approx(0.051)


# ------------------------------------------------------------------ many lanes
def test_a_hot_lane_delays_the_others_by_one_batch_each() -> None:
    former = eager()
    hot = make_lane("hot")
    for _ in range(1000):
        put(former, hot, 0.0)
    served = [leave(former, 0.0)]
    cold = [make_lane(name) for name in "abc"]
    for lane in cold:
        put(former, lane, 0.001)
    for _ in range(6):
        former.finished(served[-1])
        served.append(leave(former, 0.002, "slot_free"))
    assert {batch.lane.key for batch in served[1:6]} >= {"a", "b", "c"}


def test_ten_thousand_lanes_each_get_their_turn() -> None:
    former = eager()
    blocker = make_lane("blocker")
    put(former, blocker, 0.0)
    batch = leave(former, 0.0)
    lanes = [make_lane(str(number)) for number in range(10_000)]
    for lane in lanes:
        put(former, lane, 0.0)
    assert former.next_wakeup(0.0) == pytest.approx(0.050)
    served = set()
    for _ in lanes:
        former.finished(batch)
        batch = leave(former, 0.010, "slot_free")
        served.add(batch.lane.key)
    assert len(served) == 10_000
    assert former.waiting == 0
    assert former.next_wakeup(0.010) == math.inf


def returning(limit: float = 1, *, cap: int = 10) -> tuple[Former, Lane]:
    """A backend of 10 ms a call, and a lane whose callers come back within a millisecond; four were answered
    at 100.0."""
    former = eager(limit)
    lane = Lane("a", WINDOW, Profile(lambda: ItemCap(cap, cap, cap)), tenant="a")
    for size in (4, 8) * 8:
        lane.profile.model.observe(size, 0.010, was_alone=True)
    lane.profile.service_s = 0.010
    for now in range(4):
        lane.answered(4, float(now))
        for _ in range(4):
            lane.returns.came(1, now + 0.001)
    lane.answered(4, 100.0)
    return former, lane


def test_a_lane_waits_for_callers_who_come_straight_back() -> None:
    former, lane = returning()
    for _ in range(3):
        put(former, lane, 100.0005)
        assert former.next_batch(100.0005) is None
    assert former.next_wakeup(100.0005) == pytest.approx(100.00125)
    put(former, lane, 100.001)
    batch = leave(former, 100.001)
    assert (batch.items, batch.trigger) == (4, "slot_free")


def test_a_lane_waits_no_longer_than_its_callers_usually_take() -> None:
    former, lane = returning()
    put(former, lane, 100.0005)
    assert former.next_batch(100.0005) is None
    assert leave(former, former.next_wakeup(100.0005)).items == 1
    assert former.next_wakeup(100.002) == math.inf


def test_a_lane_that_is_full_or_due_waits_for_nobody() -> None:
    former, lane = returning(cap=3)
    put(former, lane, 100.0005, items=3)
    assert leave(former, 100.0005).trigger == "full"
    former, lane = returning()
    put(former, lane, 100.0005, deadline=100.010)
    assert leave(former, 100.0005).items == 1


def test_other_lanes_do_not_wait_for_somebody_elses_callers() -> None:
    former, lane = returning()
    put(former, lane, 100.0005)
    other = make_lane("b")
    put(former, other, 100.0005)
    assert leave(former, 100.0005).lane is other
    former.finished(next(iter(former.in_flight)))
    assert former.next_batch(100.0006) is None
    assert leave(former, 100.002).lane is lane


def test_nobody_is_waited_for_with_several_slots_or_when_draining() -> None:
    former, lane = returning(limit=2)
    put(former, lane, 100.0005)
    assert leave(former, 100.0005).items == 1
    former, lane = returning()
    put(former, lane, 100.0005)
    former.drain()
    assert leave(former, 100.0005).trigger == "drain"
