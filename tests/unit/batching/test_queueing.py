"""Lanes: the order of tickets, and what is known of all of them together."""

from __future__ import annotations

import math

import pytest

from proxy.batching.cap import ItemCap
from proxy.batching.profile import Profile
from proxy.batching.queueing import Bounds, Lane, Ticket


def make_lane(items: int = 10, nbytes: int = 1000) -> Lane:
    return Lane("key", Bounds(nbytes, 0.050), Profile(lambda: ItemCap(items, 1, items)))


def put(
    lane: Lane, arrived_at: float = 0.0, *, urgency: int = 3, items: int = 1, deadline: float = math.inf
) -> Ticket:
    ticket = Ticket(lane, items, 10, arrived_at, deadline)
    ticket.urgency = urgency
    lane.add(ticket)
    return ticket


def test_an_empty_lane_wants_nothing() -> None:
    lane = make_lane()
    assert (lane.due_at(), lane.waiting_since(), lane.tickets()) == (math.inf, math.inf, [])
    assert lane.take(0.0) == ([], [], False)


def test_a_lane_is_full_by_items_or_by_bytes() -> None:
    by_items, by_bytes = make_lane(items=2), make_lane(nbytes=20)
    for lane in (by_items, by_bytes):
        put(lane)
        assert not lane.is_full
        put(lane)
        assert lane.is_full


def test_more_urgent_tickets_travel_first() -> None:
    lane = make_lane(items=2)
    usual, low, urgent = put(lane), put(lane, urgency=6), put(lane, urgency=0)
    assert lane.urgency == 0
    assert lane.take(0.0).members == [urgent, usual]
    assert lane.urgency == 6
    assert lane.take(0.0).members == [low]


def test_each_second_of_waiting_moves_a_ticket_up_a_class() -> None:
    lane = make_lane(items=1)
    patient = put(lane, 0.0, urgency=5)
    first = put(lane, 1.5, urgency=3)
    assert lane.take(1.6).members == [first]
    second = put(lane, 2.5, urgency=3)
    assert lane.take(2.6).members == [patient]
    assert lane.take(2.6).members == [second]


def test_a_lane_that_empties_forgets_its_classes() -> None:
    lane = make_lane()
    put(lane, urgency=0)
    lane.take(0.0)
    put(lane)
    assert lane.urgency == 3


def test_husks_are_skipped_in_every_class() -> None:
    lane = make_lane()
    tickets = [put(lane, urgency=urgency) for urgency in (3, 0, 3, 0, 3)]
    for ticket in tickets[:2]:
        lane.remove(ticket)
    assert (lane.items, lane.nbytes) == (3, 30)
    assert lane.tickets() == [tickets[2], tickets[4], tickets[3]]
    assert lane.take(0.0).members == [tickets[3], tickets[2], tickets[4]]


def test_expired_tickets_are_husks_afterwards() -> None:
    lane = make_lane()
    expired, alive = put(lane, deadline=1.0), put(lane, deadline=2.0)
    load = lane.take(1.5)
    assert (load.members, load.expired) == ([alive], [expired])
    assert expired.is_gone
    assert (lane.items, lane.nbytes) == (0, 0)


def test_the_most_urgent_deadline_counts_less_the_time_a_batch_takes() -> None:
    lane = make_lane()
    lane.profile.service_s = 0.2
    put(lane, deadline=9.0)
    put(lane, deadline=1.0)
    put(lane, deadline=5.0)
    assert lane.hurry_at == pytest.approx(0.8)


def test_a_wish_ends_the_window_and_makes_a_ticket_press() -> None:
    lane = make_lane()
    ticket = Ticket(lane, 1, 10, 1.0)
    ticket.wish(0.005)
    lane.add(ticket)
    assert lane.window_ends_at == lane.hurry_at == pytest.approx(1.005)


def test_looking_ahead_sees_those_who_can_be_in_the_next_batch() -> None:
    lane = make_lane(items=2)
    for deadline in (50.0, 40.0, 1.0):
        put(lane, deadline=deadline)
    lane.look_ahead()
    assert lane.hurry_at == 40.0


def test_waiting_since_is_the_oldest_of_all_classes() -> None:
    lane = make_lane()
    put(lane, 2.0)
    put(lane, 1.0, urgency=7)
    assert lane.waiting_since() == 1.0
