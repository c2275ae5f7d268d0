"""The demand queue: Smith's rule, ageing, deadlines."""

from math import inf

from proxy.loading.queue import DemandQueue, Ticket

LOADS = {"a": 10.0, "b": 20.0, "c": 0.0}


def queue(*tickets: Ticket) -> DemandQueue:
    waiting = DemandQueue()
    for ticket in tickets:
        waiting.add(ticket)
    return waiting


def order(waiting: DemandQueue, now: float = 1.0) -> list[str]:
    return waiting.order(now, LOADS.__getitem__)


def test_is_empty_at_first() -> None:
    waiting = DemandQueue()
    assert len(waiting) == 0
    assert not waiting
    assert waiting.waiting("a") == 0
    assert waiting.next_deadline() == inf
    assert waiting.take("a") == ()


def test_the_quicker_load_goes_first() -> None:
    assert order(queue(Ticket("b", 0, inf), Ticket("a", 0, inf))) == ["a", "b"]


def test_more_weight_goes_first() -> None:
    crowd = [Ticket("b", 0, inf) for _ in range(3)]
    assert order(queue(Ticket("a", 0, inf), *crowd)) == ["b", "a"]
    assert order(queue(Ticket("a", 0, inf), Ticket("b", 0, inf, weight=3.0))) == ["b", "a"]


def test_ties_are_decided_by_name() -> None:
    loads = {"x": 5.0, "y": 5.0}
    waiting = queue(Ticket("y", 0, inf), Ticket("x", 0, inf))
    assert waiting.order(1.0, loads.__getitem__) == ["x", "y"]


def test_a_load_time_of_zero_is_no_error() -> None:
    assert order(queue(Ticket("a", 0, inf), Ticket("c", 0, inf)))[0] == "c"


def test_who_has_waited_for_a_minute_goes_first() -> None:
    waiting = queue(Ticket("b", 0, inf), *(Ticket("a", 50, inf) for _ in range(9)))
    assert order(waiting, now=59.0) == ["a", "b"]
    assert order(waiting, now=60.0) == ["b", "a"]


def test_half_of_ones_time_is_a_long_wait() -> None:
    waiting = queue(Ticket("b", 0, 20), Ticket("a", 0, inf))
    assert order(waiting, now=9.0) == ["a", "b"]
    assert order(waiting, now=10.0) == ["b", "a"]


def test_the_aged_go_by_deadline_then_by_arrival() -> None:
    waiting = queue(Ticket("a", 0, 200), Ticket("b", 5, 100), Ticket("c", 1, 200))
    assert order(waiting, now=150.0) == ["b", "a", "c"]


def test_counts_those_who_wait() -> None:
    first, second = Ticket("a", 0, inf), Ticket("a", 1, inf)
    waiting = queue(first, second)
    assert waiting.waiting("a") == 2
    assert "a" in waiting
    assert waiting.oldest("a") is first
    assert waiting.remove(first)
    assert waiting.oldest("a") is second
    assert waiting.remove(second)
    assert "a" not in waiting


def test_leaving_twice_is_harmless() -> None:
    ticket = Ticket("a", 0, inf)
    waiting = queue(ticket, Ticket("a", 0, inf))
    assert waiting.remove(ticket)
    assert not waiting.remove(ticket)
    assert not waiting.remove(Ticket("b", 0, inf))


def test_takes_all_in_arrival_order() -> None:
    tickets = [Ticket("a", n, inf) for n in range(3)]
    waiting = queue(*tickets, Ticket("b", 0, inf))
    assert waiting.take("a") == tuple(tickets)
    assert len(waiting) == 1


def test_expires_at_the_deadline() -> None:
    early, late = Ticket("a", 0, 5), Ticket("a", 0, 9)
    waiting = queue(early, late)
    assert waiting.next_deadline() == 5
    assert waiting.expired(4.9) == []
    assert waiting.expired(5) == [early]
    assert waiting.expired(5) == []
    assert waiting.next_deadline() == 9
    assert waiting.take("a") == (late,)
    assert waiting.next_deadline() == inf
    waiting.add(Ticket("a", 0, 20))
    waiting.add(Ticket("a", 0, inf))
    assert waiting.next_deadline() == 20
    assert waiting.waiting("a") == 2
