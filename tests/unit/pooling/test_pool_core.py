from __future__ import annotations

import math

import pytest

from proxy.pooling.idle_time import LOOKS
from proxy.pooling.pool_core import PoolCore, Ticket

Core = PoolCore["Conn", str]


class Conn:
    held_up_since = math.inf

    def __init__(self, uses: int = 1, looks: int = 0) -> None:
        self.uses = uses
        self.looks = looks


def core(most: int = 10, queue: int = 10) -> Core:
    return PoolCore(most, queue)


def ticket(
    name: str,
    give_up_at: float = 3.0,
    *,
    needs_fresh: bool = False,
    is_once: bool = False,
    is_stream: bool = False,
) -> Ticket[str]:
    return Ticket(name, give_up_at, needs_fresh=needs_fresh, is_once=is_once, is_stream=is_stream)


def wait(subject: Core, *names: str) -> list[Ticket[str]]:
    tickets = [ticket(name) for name in names]
    assert all(subject.enqueue(one) for one in tickets)
    return tickets


def lease(subject: Core, count: int = 1, *, uses: int = 0) -> list[Conn]:
    made = []
    for _ in range(count):
        subject.dialing += 1
        connection = Conn(uses)
        subject.dialed(connection)
        made.append(connection)
    return made


def name(found: Ticket[str] | None) -> str | None:
    return found.claim if found is not None else None


# ------------------------------------------------------------------ connections
def test_an_empty_pool_has_nothing_to_take() -> None:
    assert core().take() is None
    assert core().peek() is None


def test_the_connection_used_last_is_taken_first() -> None:
    subject = core()
    first, second = lease(subject, 2)
    subject.give_back(first)
    subject.give_back(second)
    assert subject.peek() is second
    assert subject.take() is second
    assert subject.take() is first
    assert subject.leased == {first, second}
    assert not subject.idle


def test_a_returned_connection_goes_to_the_oldest_ticket() -> None:
    subject = core()
    [connection] = lease(subject)
    wait(subject, "old", "new")
    assert name(subject.give_back(connection)) == "old"
    assert connection in subject.leased
    assert not subject.idle


def test_a_lost_connection_is_nowhere() -> None:
    subject = core()
    leased, idle = lease(subject, 2)
    subject.give_back(idle)
    subject.streams.add(leased)
    for connection in (leased, idle, Conn()):
        subject.forget(connection)
    assert subject.total == 0
    assert not subject.streams


def test_the_lease_limit_is_not_exceeded() -> None:
    subject = core()
    first, second = lease(subject, 2)
    subject.give_back(first)
    subject.lease_limit = 1
    assert subject.take() is None
    assert subject.peek() is None
    wait(subject, "a")
    assert name(subject.give_back(second)) == "a", "a lease passed on is no further lease"


def test_above_a_lowered_limit_a_returned_connection_becomes_idle() -> None:
    subject = core()
    first, _ = lease(subject, 2)
    wait(subject, "a")
    subject.lease_limit = 1
    assert subject.give_back(first) is None
    assert subject.idle == [first]


# ------------------------------------------------------------------ rest
def test_an_untrusted_connection_must_rest() -> None:
    subject = core()
    subject.must_rest = True
    cold, hot = Conn(looks=LOOKS - 1), Conn()
    subject.idle = [cold, hot]
    assert subject.peek() is None
    assert subject.take() is None
    cold.looks = LOOKS
    assert subject.peek() is cold
    assert subject.take() is cold
    assert subject.take() is None


def test_an_untrusted_connection_is_not_handed_over() -> None:
    subject = core()
    subject.must_rest = True
    [used] = lease(subject, uses=1)
    wait(subject, "a")
    assert subject.give_back(used) is None
    assert subject.idle == [used]


def test_a_fresh_connection_need_not_rest() -> None:
    subject = core()
    subject.must_rest = True
    fresh, other = lease(subject, 2)
    subject.give_back(fresh)
    assert subject.take() is fresh
    wait(subject, "a")
    assert name(subject.give_back(other)) == "a"


def test_a_rested_connection_that_nobody_may_have_stays_coldest() -> None:
    subject = core()
    subject.must_rest = True
    cold, hot = Conn(looks=LOOKS), Conn()
    subject.idle = [cold, hot]
    subject.enqueue(ticket("a", needs_fresh=True))
    taken = subject.take()
    assert taken is cold
    assert subject.assign(taken) is None
    assert subject.idle == [cold, hot]


# ------------------------------------------------------------------ tickets
def test_the_queue_is_bounded() -> None:
    subject = core(queue=1)
    assert subject.enqueue(ticket("a"))
    assert not subject.enqueue(ticket("b"))


def test_a_withdrawn_ticket_is_not_served() -> None:
    subject = core()
    [connection] = lease(subject)
    gone, _ = wait(subject, "gone", "here")
    assert subject.withdraw(gone)
    assert not subject.withdraw(gone)
    assert name(subject.give_back(connection)) == "here"


def test_tickets_give_up_at_their_own_time() -> None:
    subject = core()
    subject.enqueue(ticket("late", 5.0))
    subject.enqueue(ticket("soon", 1.0))
    assert [one.claim for one in subject.give_up(1.0)] == ["soon"]
    assert [one.claim for one in subject.waiting] == ["late"]


def test_a_ticket_that_needs_a_fresh_connection_lets_others_pass() -> None:
    subject = core()
    [used] = lease(subject, uses=1)
    [fresh] = lease(subject)
    subject.enqueue(ticket("careful", needs_fresh=True))
    subject.enqueue(ticket("any"))
    assert name(subject.give_back(used)) == "any"
    assert name(subject.give_back(fresh)) == "careful"


def test_a_used_connection_is_no_help_to_who_needs_a_fresh_one() -> None:
    subject = core()
    [used] = lease(subject, uses=1)
    subject.enqueue(ticket("careful", needs_fresh=True))
    assert subject.give_back(used) is None
    assert subject.idle == [used]


@pytest.mark.parametrize("is_safe", [True, False])
def test_what_must_not_be_executed_twice_gets_what_is_safe_when_it_becomes_free(is_safe: bool) -> None:
    subject = core()
    first, second = lease(subject, 2, uses=1)
    subject.enqueue(ticket("once", is_once=True))
    subject.enqueue(ticket("any"))
    assert name(subject.give_back(first, is_safe=is_safe)) == ("once" if is_safe else "any")
    assert name(subject.give_back(second)) == ("any" if is_safe else "once")


def test_streams_leave_a_tenth_of_the_pool() -> None:
    subject = core(most=10)
    streaming = lease(subject, 9)
    subject.streams.update(streaming)
    assert subject.is_streaming_full
    subject.enqueue(ticket("stream", is_stream=True))
    subject.enqueue(ticket("short"))
    assert subject.dials_wanted(0.0) == 1, "for the short one"
    [last] = lease(subject)
    assert name(subject.give_back(last)) == "short"
    assert subject.give_back(last) is None
    assert name(subject.give_back(streaming[0])) == "stream"


def test_a_tiny_pool_may_stream() -> None:
    assert not core(most=1).is_streaming_full


# ------------------------------------------------------------------ dials
@pytest.mark.parametrize(
    ("waiting", "dialing", "leased", "most", "dials"),
    [
        (0, 0, 0, 10, 0),
        (3, 0, 0, 10, 3),
        (3, 2, 0, 10, 1),
        (3, 5, 0, 10, 0),
        (20, 0, 0, 10, 8),
        (5, 0, 9, 10, 1),
        (5, 1, 9, 10, 0),
    ],
)
def test_dials_serve_the_tickets_within_the_bounds(
    waiting: int, dialing: int, leased: int, most: int, dials: int
) -> None:
    subject = core(most, queue=100)
    lease(subject, leased)
    subject.dialing = dialing
    wait(subject, *map(str, range(waiting)))
    assert subject.dials_wanted(0.0) == dials


def test_no_dial_above_the_lease_limit() -> None:
    subject = core()
    lease(subject, 2)
    subject.lease_limit = 3
    wait(subject, "a", "b")
    assert subject.dials_wanted(0.0) == 1


@pytest.mark.parametrize(
    ("spare", "idle", "leased", "dialing", "dials"),
    [(3, 0, 0, 0, 3), (3, 2, 0, 0, 1), (3, 2, 0, 1, 0), (3, 0, 8, 0, 2), (3, 0, 10, 0, 0), (10, 0, 0, 0, 8)],
)
def test_spares_fill_what_is_left_of_the_pool(
    spare: int, idle: int, leased: int, dialing: int, dials: int
) -> None:
    subject = core()
    for connection in lease(subject, idle + leased)[:idle]:
        subject.give_back(connection)
    subject.dialing = dialing
    assert subject.spares_wanted(0.0, spare) == dials


def test_a_full_pool_makes_room_for_a_fresh_connection() -> None:
    subject = core(most=2)
    cold, hot = lease(subject, 2, uses=1)
    subject.give_back(cold)
    subject.give_back(hot)
    assert subject.make_room() is None, "nobody needs it"
    wait(subject, "any")
    assert subject.make_room() is None, "nobody needs a fresh one"
    subject.enqueue(ticket("careful", needs_fresh=True))
    subject.lease_limit = 0
    assert subject.make_room() is None, "it could not be leased"
    subject.lease_limit = 2
    assert subject.make_room() is cold
    assert subject.make_room() is None, "there is room now"
    assert subject.dials_wanted(0.0) == 1


def test_what_rests_is_let_rest_while_rests_are_needed() -> None:
    subject = core(most=2)
    subject.must_rest = True
    subject.enqueue(ticket("careful", is_once=True))
    cold, hot = Conn(uses=1), Conn(uses=1)
    subject.idle = [cold, hot]
    assert subject.make_room() is hot
    subject.idle = [cold, hot]
    cold.looks = LOOKS
    assert subject.make_room() is cold, "it has nothing more to prove"


def test_a_dial_that_nobody_waits_for_becomes_idle() -> None:
    subject = core()
    [connection] = lease(subject)
    assert subject.give_back(connection) is None
    assert subject.idle == [connection]


def test_a_failed_dial_fails_the_oldest_ticket() -> None:
    subject = core()
    wait(subject, "a", "b")
    subject.dialing = 2
    assert [one.claim for one in subject.dial_failed(0.0, 0.5)] == ["a"]
    assert subject.dialing == 1
    assert [one.claim for one in subject.waiting] == ["b"]


def test_a_failed_dial_that_nobody_waits_for_fails_nobody() -> None:
    subject = core()
    subject.dialing = 1
    assert subject.dial_failed(0.0, 0.5) == []


def test_dials_back_off() -> None:
    subject = core()
    wait(subject, "a", "b")
    subject.dialing = 1
    subject.dial_failed(0.0, 1.0)
    assert subject.dials_wanted(0.04) == 0
    assert subject.spares_wanted(0.04, 5) == 0
    assert subject.dials_wanted(0.05) == 1
    assert subject.spares_wanted(0.05, 5) == 5


def fail_dials(subject: Core, count: int) -> list[Ticket[str]]:
    failed = []
    for _ in range(count):
        subject.dialing += 1
        failed += subject.dial_failed(0.0, 1.0)
    return failed


def test_the_third_failure_in_a_row_is_hopeless() -> None:
    subject = core()
    wait(subject, *"abcdef")
    assert [one.claim for one in fail_dials(subject, 2)] == ["a", "b"]
    assert not subject.is_hopeless(0.0)
    assert [one.claim for one in fail_dials(subject, 1)] == ["c", "d", "e", "f"]
    assert subject.is_hopeless(0.0)
    assert not subject.is_hopeless(0.2), "the back-off is over: a call may cause a dial"


def test_while_a_connection_may_come_back_there_is_hope() -> None:
    subject = core()
    lease(subject)
    wait(subject, *"abcdef")
    assert [one.claim for one in fail_dials(subject, 5)] == ["a", "b", "c", "d", "e"]
    assert not subject.is_hopeless(0.0)


def test_a_sign_of_life_ends_the_back_off() -> None:
    subject = core()
    fail_dials(subject, 5)
    wait(subject, "a")
    subject.reconsider()
    assert subject.dials_wanted(0.0) == 1
    fail_dials(subject, 1)
    assert not subject.is_hopeless(0.0)


# ------------------------------------------------------------------ slow readers
def test_slow_readers_are_in_the_way_of_those_who_wait_for_nothing_else() -> None:
    subject = core(2)
    early, late = lease(subject, 2)
    early.held_up_since, late.held_up_since = 1.0, 2.0
    subject.streams |= {early, late}
    assert subject.held_up_since == math.inf, "nobody waits"
    wait(subject, "a")
    assert subject.held_up_since == 1.0
    assert subject.in_the_way(0.9) == []
    assert subject.in_the_way(5.0) == [early]
    wait(subject, "b", "c")
    assert subject.in_the_way(1.5) == [early]
    assert subject.in_the_way(5.0) == [early, late]


def test_a_slow_reader_is_in_nobodys_way_while_a_dial_is_possible_or_under_way() -> None:
    subject = core(3)
    (slow,) = lease(subject)
    slow.held_up_since = 1.0
    subject.streams.add(slow)
    wait(subject, "a")
    assert subject.in_the_way(5.0) == []
    subject.lease_limit = 1
    assert subject.in_the_way(5.0) == [slow]
    subject.lease_limit, subject.dialing = 3, 2
    assert subject.in_the_way(5.0) == []
