"""Whose turn it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from proxy.batching.fairness import FairQueue

if TYPE_CHECKING:
    from collections.abc import Hashable


class Wanting:
    """A lane that always wants to send batches of one size."""

    def __init__(self, name: str, tenant: Hashable = None, *, items: int = 10, urgency: int = 3) -> None:
        self.name = name
        self.tenant = tenant
        self.items = items
        self.urgency = urgency
        self.credit = 0.0
        self.listed_as: int | None = None
        self.since = 0.0

    def waiting_since(self) -> float:
        return self.since


def pop(queue: FairQueue, now: float = 0.0) -> Wanting:
    lane = queue.pop(now)
    assert isinstance(lane, Wanting)
    return lane


def serve(queue: FairQueue, turns: int) -> list[str]:
    """Who was served, everybody wanting more at once."""
    served = []
    for _ in range(turns):
        lane = pop(queue)
        queue.add(lane)
        queue.charge(lane, lane.items)
        served.append(lane.name)
    return served


def shares(queue: FairQueue, turns: int, lanes: list[Wanting]) -> Counter[str]:
    sizes = {lane.name: lane.items for lane in lanes}
    got: Counter[str] = Counter()
    for name in serve(queue, turns):
        got[name] += sizes[name]
    return got


def queue_of(*lanes: Wanting) -> FairQueue:
    queue = FairQueue()
    for lane in lanes:
        queue.add(lane)
    return queue


def test_an_empty_queue_has_nobody() -> None:
    assert FairQueue().pop(0.0) is None


def test_lanes_of_one_size_take_turns() -> None:
    queue = queue_of(*(Wanting(name) for name in "abc"))
    assert serve(queue, 9) == list("abcabcabc")


def test_a_lane_is_listed_once() -> None:
    lane = Wanting("a")
    queue = queue_of(lane, lane)
    assert queue.pop(0.0) is lane
    assert queue.pop(0.0) is None


def test_large_and_small_batches_get_equal_shares() -> None:
    lanes = [Wanting("large", "x", items=200), Wanting("small", "y", items=1)]
    got = shares(queue_of(*lanes), 4000, lanes)
    assert 0.9 < got["large"] / got["small"] < 1.1


def test_a_tenant_gains_nothing_by_opening_many_lanes() -> None:
    many = [Wanting(f"many {number}", "greedy") for number in range(9)]
    lanes = [*many, Wanting("one", "modest")]
    got = shares(queue_of(*lanes), 2000, lanes)
    assert 0.9 < sum(got[lane.name] for lane in many) / got["one"] < 1.1


def test_the_lanes_of_a_tenant_share_equally() -> None:
    lanes = [Wanting("large", "x", items=100), Wanting("small", "x", items=5), Wanting("other", "y")]
    got = shares(queue_of(*lanes), 4000, lanes)
    assert 0.9 < got["large"] / got["small"] < 1.1


def test_who_was_alone_owes_nothing_to_those_who_come_later() -> None:
    old, new = Wanting("old", "x", items=100), Wanting("new", "y", items=100)
    queue = queue_of(old)
    serve(queue, 1000)
    queue.add(new)
    assert serve(queue, 8).count("old") >= 3


def test_more_urgent_lanes_go_first() -> None:
    queue = queue_of(Wanting("usual"), Wanting("urgent", urgency=1), Wanting("idle", urgency=7))
    assert [pop(queue).name for _ in range(3)] == ["urgent", "usual", "idle"]


def test_waiting_makes_up_for_urgency() -> None:
    patient, urgent = Wanting("patient", urgency=5), Wanting("urgent", urgency=3)
    queue = queue_of(patient, urgent)
    urgent.since = 1.0
    assert pop(queue, now=1.9).name == "urgent"
    urgent.since = 3.0
    queue.add(urgent)
    assert pop(queue, now=3.5).name == "patient"


def test_a_lane_moves_up_when_it_becomes_urgent_and_leaves_no_trace() -> None:
    lane = Wanting("a")
    queue = queue_of(lane, Wanting("b"))
    lane.urgency = 0
    queue.add(lane)
    assert [pop(queue).name for _ in range(2)] == ["a", "b"]
    assert queue.pop(0.0) is None


def test_a_lane_does_not_move_down() -> None:
    lane = Wanting("a", urgency=1)
    queue = queue_of(lane, Wanting("b"))
    lane.urgency = 5
    queue.add(lane)
    assert pop(queue).name == "a"


def test_ten_thousand_lanes_are_served_in_order() -> None:
    lanes = [Wanting(str(number), number % 7) for number in range(10_000)]
    queue = queue_of(*lanes)
    served = [pop(queue).name for _ in lanes]
    assert len(set(served)) == 10_000
    assert queue.pop(0.0) is None


def test_charging_finds_the_tenant_in_its_class() -> None:
    lane, other = Wanting("a", "x"), Wanting("b", "y", urgency=1)
    queue = queue_of(lane, other, Wanting("c", "x"))
    assert pop(queue) is other
    assert pop(queue) is lane
    queue.add(lane)
    queue.charge(lane, 100)
    assert lane.credit < 0


def test_charging_a_tenant_that_is_gone_is_harmless() -> None:
    lane = Wanting("a", "x")
    queue = queue_of(lane)
    queue.pop(0.0)
    assert queue.pop(0.0) is None
    credit = lane.credit
    queue.charge(lane, 10)
    assert lane.credit == credit
    queue.add(Wanting("b", "y"))
    queue.charge(lane, 10)
    assert lane.credit == credit
