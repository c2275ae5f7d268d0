"""The queueing rules: who leaves when, and with whom."""

from __future__ import annotations

import math

import pytest

from proxy.batching.former import Former
from proxy.batching.queueing import Ticket
from tests.support.formers import WINDOW, eager, leave, make_lane, patient, put, teach


def test_a_lone_ticket_leaves_an_eager_former_at_once() -> None:
    former, lane = eager(), make_lane()
    ticket = Ticket(lane, 1, 10, 0.0)
    assert former.add(ticket)
    batch = leave(former, 0.0)
    assert (batch.members, batch.trigger, batch.wait_s) == ([ticket], "idle", 0.0)
    assert former.next_batch(0.0) is None
    assert former.next_wakeup(0.0) == math.inf


def test_everything_that_collected_leaves_when_a_slot_frees() -> None:
    former, lane = eager(), make_lane()
    put(former, lane, 0.0)
    first = leave(former, 0.0)
    waiting = [put(former, lane, 0.001 * k) for k in range(1, 6)]
    assert former.next_batch(0.005) is None
    former.finished(first)
    batch = leave(former, 0.010, "slot_free")
    assert batch.members == waiting
    assert batch.trigger == "slot_free"
    assert batch.wait_s == pytest.approx(0.009)


def test_an_arrival_says_whether_something_may_leave() -> None:
    former, lane = eager(), make_lane()
    assert former.add(Ticket(lane, 1, 10, 0.0))
    leave(former, 0.0)
    assert not former.add(Ticket(lane, 1, 10, 0.0))


def test_the_item_bound_cuts_a_batch_and_the_rest_follows_in_order() -> None:
    former, lane = eager(limit=3), make_lane()
    tickets = [put(former, lane, 0.0, items=4) for _ in range(5)]
    first, second, third = leave(former, 0.0), leave(former, 0.0), leave(former, 0.0)
    assert [first.members, second.members, third.members] == [tickets[:2], tickets[2:4], tickets[4:]]
    assert [first.trigger, second.trigger, third.trigger] == ["full", "full", "idle"]
    assert (first.items, sum(ticket.nbytes for ticket in first.members)) == (8, 20)


def test_the_byte_bound_cuts_a_batch() -> None:
    former, lane = eager(), make_lane()
    tickets = [put(former, lane, 0.0, nbytes=600) for _ in range(2)]
    batch = leave(former, 0.0)
    assert batch.members == tickets[:1]
    assert batch.trigger == "full"


def test_a_ticket_over_the_bounds_travels_alone() -> None:
    former, lane = eager(limit=3), make_lane()
    small = put(former, lane, 0.0)
    large = put(former, lane, 0.0, items=50)
    assert leave(former, 0.0).members == [small]
    batch = leave(former, 0.0)
    assert batch.members == [large]
    assert batch.trigger == "full"


def test_lanes_take_turns() -> None:
    former = eager()
    one, two = make_lane("one"), make_lane("two")
    for _ in range(3):
        put(former, one, 0.0, items=10)
    put(former, two, 0.0)
    order = []
    for _ in range(4):
        batch = leave(former, 0.0, "slot_free")
        order.append(batch.lane.key)
        former.finished(batch)
    assert order == ["one", "two", "one", "one"]


def test_a_withdrawn_ticket_is_not_sent() -> None:
    former, lane = eager(), make_lane()
    first = put(former, lane, 0.0)
    leaver = put(former, lane, 0.0)
    last = put(former, lane, 0.0)
    former.withdraw(leaver)
    assert leave(former, 0.0).members == [first, last]


def test_a_lane_whose_tickets_all_left_sends_nothing() -> None:
    former, lane = eager(), make_lane()
    former.withdraw(put(former, lane, 0.0))
    assert former.next_batch(0.0) is None
    assert lane.items == lane.nbytes == 0
    assert not former.in_flight


def test_a_ticket_whose_deadline_passed_is_dropped_before_departure() -> None:
    former, lane = eager(), make_lane()
    blocker = put(former, lane, 0.0)
    leave(former, 0.0)
    late = put(former, lane, 0.0, deadline=0.5)
    alive = put(former, lane, 0.0, deadline=2.0)
    former.finished(next(iter(former.in_flight)))
    assert leave(former, 0.5, "slot_free").members == [alive]
    assert former.expired == [late]
    assert blocker not in former.expired


def test_a_lane_of_expired_tickets_lets_the_next_lane_go() -> None:
    former = eager()
    dead, living = make_lane("dead"), make_lane("living")
    put(former, dead, 0.0, deadline=1.0)
    put(former, living, 0.0)
    assert leave(former, 1.0).lane is living


# ------------------------------------------------------------------ lent slots
def test_a_late_batch_lends_its_slot_after_max_wait() -> None:
    former, lane = eager(), make_lane()
    put(former, lane, 0.0)
    leave(former, 0.0)
    waiting = put(former, lane, 0.020)
    assert former.next_wakeup(0.020) == pytest.approx(0.070)
    assert former.next_batch(0.069) is None
    batch = leave(former, 0.070)
    assert (batch.members, batch.trigger) == ([waiting], "window")


def test_no_more_than_limit_plus_one_slots_are_lent() -> None:
    former, lane = eager(), make_lane()
    now = 0.0
    while True:
        put(former, lane, now)
        former.next_wakeup(now)
        now += 0.050
        if former.next_batch(now) is None:
            break
    assert len(former.in_flight) == 3
    assert former.next_wakeup(now) == math.inf


def test_a_limit_that_is_set_lends_nothing() -> None:
    former, lane = Former(is_eager=True, limit=1, lends=False), make_lane()
    put(former, lane, 0.0)
    first = leave(former, 0.0)
    waiting = put(former, lane, 0.020)
    assert former.next_wakeup(0.020) == pytest.approx(0.070)
    assert former.next_batch(9.0) is None
    assert former.next_wakeup(9.0) == math.inf
    former.finished(first)
    assert leave(former, 9.5).members == [waiting]


def test_a_punctual_backend_lends_nothing() -> None:
    former, lane = eager(), make_lane()
    teach(lane, 1.0)
    put(former, lane, 0.0)
    first = leave(former, 0.0)
    put(former, lane, 0.1)
    former.next_wakeup(0.1)
    assert former.next_batch(0.2) is None
    assert former.next_wakeup(0.2) == first.due_at == 2.0
    assert leave(former, 2.0).trigger == "window"


def test_a_lent_slot_goes_past_a_lane_whose_tickets_expired() -> None:
    former = eager()
    blocked, dead, living = make_lane("blocked"), make_lane("dead"), make_lane("living")
    put(former, blocked, 0.0)
    leave(former, 0.0)
    expired = put(former, dead, 0.0, deadline=0.055)
    alive = put(former, living, 0.010)
    former.next_wakeup(0.010)
    batch = leave(former, 0.061)
    assert batch.members == [alive]
    assert former.expired == [expired]


def test_a_lane_served_in_time_does_not_use_its_lent_slot() -> None:
    former, lane = eager(), make_lane()
    teach(lane, 1.0)
    put(former, lane, 0.0)
    first = leave(former, 0.0)
    put(former, lane, 0.0)
    former.next_wakeup(0.0)
    assert former.next_batch(0.05) is None  # the lane is overdue now, and the first batch is not late
    former.finished(first)
    second = leave(former, 0.1, "slot_free")
    newcomer = put(former, lane, 2.09)
    assert former.next_batch(2.1) is None  # the second batch is late, but the newcomer has not waited
    assert former.next_wakeup(2.1) == pytest.approx(2.14)
    assert leave(former, 2.14).members == [newcomer]
    assert second in former.in_flight


def test_an_urgent_ticket_takes_one_slot_more() -> None:
    former, lane = eager(), make_lane()
    teach(lane, 1.0)
    put(former, lane, 0.0)
    leave(former, 0.0)
    urgent = put(former, lane, 0.0, deadline=1.02)
    assert former.next_wakeup(0.0) == pytest.approx(0.02)
    batch = leave(former, 0.021)
    assert (batch.members, batch.trigger) == ([urgent], "deadline")
    put(former, lane, 0.021, deadline=1.03)
    former.next_wakeup(0.021)
    assert former.next_batch(0.04) is None


def test_urgency_leaves_with_the_ticket() -> None:
    former, lane = eager(), make_lane()
    teach(lane, 1.0)
    put(former, lane, 0.0)
    leave(former, 0.0)
    urgent = put(former, lane, 0.0, deadline=1.02)
    put(former, lane, 0.0)
    former.next_wakeup(0.0)
    former.withdraw(urgent)
    assert former.next_batch(0.021) is None
    assert former.next_wakeup(0.021) == pytest.approx(0.050)


# --------------------------------------------------------------------- windows
def test_a_window_ends_when_its_oldest_ticket_has_waited() -> None:
    former, lane = patient(), make_lane()
    first = put(former, lane, 0.0)
    second = put(former, lane, 0.030)
    assert former.next_wakeup(0.030) == pytest.approx(0.050)
    assert former.next_batch(0.049) is None
    batch = leave(former, 0.050)
    assert (batch.members, batch.trigger) == ([first, second], "window")


def test_a_window_ends_when_the_batch_is_full() -> None:
    former, lane = patient(), make_lane()
    assert not former.add(Ticket(lane, 9, 10, 0.0))
    assert former.add(Ticket(lane, 1, 10, 0.0))
    assert leave(former, 0.0).trigger == "full"


def test_a_window_that_overflows_starts_anew_from_its_oldest_ticket() -> None:
    former, lane = patient(), make_lane()
    put(former, lane, 0.0, items=9)
    rest = put(former, lane, 0.010, items=2)
    assert leave(former, 0.010).trigger == "full"
    assert former.next_batch(0.010) is None
    ends_at = former.next_wakeup(0.010)
    assert ends_at == pytest.approx(0.060)
    assert leave(former, ends_at).members == [rest]


def test_windows_of_several_lanes_end_in_order() -> None:
    former = patient()
    slow, fast = make_lane("slow"), make_lane("fast", WINDOW._replace(wait_s=0.005))
    put(former, slow, 0.0)
    put(former, fast, 0.001)
    assert former.next_wakeup(0.001) == pytest.approx(0.006)
    assert leave(former, 0.006).lane is fast
    assert former.next_wakeup(0.006) == pytest.approx(0.050)


def test_a_window_shortens_for_an_urgent_ticket() -> None:
    former, lane = patient(), make_lane()
    teach(lane, 0.010)
    put(former, lane, 0.0)
    put(former, lane, 0.0, deadline=0.030)
    assert former.next_wakeup(0.0) == pytest.approx(0.020)
    assert leave(former, 0.020).trigger == "deadline"


def test_a_fixed_limit_holds_windows_back() -> None:
    former, lane = patient(limit=1), make_lane()
    put(former, lane, 0.0, items=10)
    first = leave(former, 0.0)
    put(former, lane, 0.0, items=10)
    assert former.next_batch(0.1) is None
    former.finished(first)
    assert leave(former, 0.1, "slot_free").trigger == "full"


# ----------------------------------------------------------------------- drain
def test_draining_ends_all_windows() -> None:
    former = patient()
    lanes = [make_lane(name) for name in "abc"]
    put(former, lanes[0], 0.0)
    former.next_wakeup(0.0)
    put(former, lanes[1], 0.0)
    former.drain()
    put(former, lanes[2], 0.0)
    batches = [leave(former, 0.001) for _ in lanes]
    assert {batch.lane.key for batch in batches} == {"a", "b", "c"}
    assert {batch.trigger for batch in batches} == {"drain"}
    assert former.next_batch(0.001) is None


# ------------------------------------------------------------------ reserved slots
def test_a_reserved_slot_is_taken() -> None:
    former, lane = eager(), make_lane()
    assert former.reserve(0.0)
    assert not former.reserve(0.0)
    assert not former.add(Ticket(lane, 1, 10, 0.0))
    assert former.next_batch(0.0) is None
    former.release()
    assert leave(former, 0.0).trigger == "idle"


@pytest.mark.parametrize(("items", "trigger"), [(1, "idle"), (10, "full")])
def test_what_left_in_a_reserved_slot_is_a_batch_of_one(items: int, trigger: str) -> None:
    former, lane = eager(), make_lane()
    assert former.reserve(0.001)
    ticket = Ticket(lane, items, 10, 0.001)
    former.release()
    batch = former.fill(ticket, 0.001)
    assert (batch.members, batch.trigger, batch.wait_s, batch.sent_at) == ([ticket], trigger, 0.0, 0.001)
    assert list(former.in_flight) == [batch]
    assert not former.reserve(0.002)
    former.finished(batch)
    assert former.reserve(0.003)


def test_several_slots_can_be_reserved() -> None:
    former = eager(limit=2)
    assert [former.reserve(0.0) for _ in range(3)] == [True, True, False]


def test_no_slot_is_reserved_where_a_call_would_not_leave_at_once() -> None:
    assert not patient().reserve(0.0)
    draining, waited_in = eager(), eager(limit=2)
    draining.drain()
    assert not draining.reserve(0.0)
    put(waited_in, make_lane(), 0.0)
    assert not waited_in.reserve(0.0)


def test_no_slot_is_reserved_while_callers_are_on_their_way_back() -> None:
    former, parallel = eager(), eager(limit=2)
    former.awaited_until = parallel.awaited_until = 0.002
    assert [former.reserve(now) for now in (0.001, 0.002)] == [False, True]
    assert parallel.reserve(0.001)
