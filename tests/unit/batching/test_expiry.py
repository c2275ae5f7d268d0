"""Whose deadline comes next."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proxy.batching.expiry import Expiry


@dataclass
class Waiting:
    deadline: float
    is_done: bool = False


def test_those_whose_time_has_come_are_named_in_order() -> None:
    expiry: Expiry[Waiting] = Expiry()
    late, soon, sooner = Waiting(9.0), Waiting(2.0), Waiting(1.0)
    for waiting in (late, soon, sooner):
        expiry.add(waiting)
    assert expiry.next_at() == 1.0
    assert expiry.due(2.0) == [sooner, soon]
    assert expiry.next_at() == 9.0


def test_those_who_are_done_are_not_named() -> None:
    expiry: Expiry[Waiting] = Expiry()
    done, waiting = Waiting(1.0), Waiting(2.0)
    for one in (done, waiting):
        expiry.add(one)
    done.is_done = True
    expiry.leave(done)
    assert expiry.next_at() == 2.0
    assert expiry.due(3.0) == [waiting]
    assert expiry.next_at() == math.inf


def test_someone_done_and_due_at_once_is_not_named() -> None:
    expiry: Expiry[Waiting] = Expiry()
    done = Waiting(1.0)
    expiry.add(done)
    done.is_done = True
    assert expiry.due(1.0) == []


def test_those_without_a_deadline_never_enter() -> None:
    expiry: Expiry[Waiting] = Expiry()
    forever = Waiting(math.inf)
    expiry.add(forever)
    assert expiry.next_at() == math.inf
    expiry.leave(forever)


def test_husks_never_outnumber_the_living_by_much() -> None:
    expiry: Expiry[Waiting] = Expiry()
    living = [Waiting(1000.0) for _ in range(10)]
    for waiting in living:
        expiry.add(waiting)
    for _ in range(10_000):
        brief = Waiting(500.0)
        expiry.add(brief)
        brief.is_done = True
        expiry.leave(brief)
        assert len(expiry) <= 2 * 10 + 64 + 1
    assert expiry.due(1000.0) == living


def test_deadlines_out_of_order_are_swept_too() -> None:
    expiry: Expiry[Waiting] = Expiry()
    last, soon = Waiting(900.0), Waiting(1.0)
    expiry.add(last)
    expiry.add(soon)
    for _ in range(200):
        brief = Waiting(500.0)
        expiry.add(brief)
        brief.is_done = True
        expiry.leave(brief)
        assert len(expiry) <= 2 * 2 + 64 + 1
    assert expiry.due(1000.0) == [soon, last]
