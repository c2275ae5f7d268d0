from __future__ import annotations

import math

import pytest

from proxy.pooling.channel_core import ChannelCore
from proxy.pooling.concurrency import Gradient
from proxy.pooling.policy import ConcurrencyPolicy, GrpcPoolPolicy
from proxy.pooling.pool_core import Ticket


class FakeChannel:
    """A channel that is as loaded as a test says."""

    def __init__(self, load: int = 0, capacity: int = 100, idle_since: float = 0.0) -> None:
        self.load = load
        self.capacity = capacity
        self.born_at = 0.0
        self.idle_since = idle_since
        self.is_writing = False


class Even:
    """Draws that are spread evenly."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self) -> float:
        self.drawn += 1
        return self.drawn * 0.6180339887 % 1


Core = ChannelCore[FakeChannel, str]


def core(*channels: FakeChannel, **policy: object) -> Core:
    made: Core = ChannelCore(GrpcPoolPolicy.model_validate({"min": 1} | policy), Even())
    made.is_started = True
    for channel in channels:
        made.dialing += 1
        made.dialed(channel, 0.0)
    return made


def test_the_least_loaded_channel_is_picked() -> None:
    idle, busy = FakeChannel(1), FakeChannel(5)
    assert core(busy, idle).pick() is idle
    assert core().pick() is None


def test_a_channel_without_room_is_passed_over() -> None:
    full, other, fuller = FakeChannel(1, capacity=0), FakeChannel(5), FakeChannel(3, capacity=0)
    assert core(full, other, fuller).pick() is other
    assert core(full, fuller).pick() is None


def test_calls_of_one_turn_share_a_write_up_to_a_bound() -> None:
    first, second = FakeChannel(), FakeChannel()
    made = core(first, second)
    for _ in range(16):
        assert made.pick() is first
        first.load += 1
        first.is_writing = True
    assert made.pick() is second


def test_a_channel_that_writes_nothing_is_not_joined() -> None:
    first, second = FakeChannel(), FakeChannel()
    made = core(first, second)
    assert made.pick() is first
    first.load = 1
    assert made.pick() is second


def test_a_channel_that_is_full_or_gone_is_not_joined() -> None:
    first, second = FakeChannel(), FakeChannel(2)
    made = core(first, second)
    assert made.pick() is first
    first.is_writing = True
    first.capacity = 0
    assert made.pick() is second
    first.capacity = 1
    assert made.pick() is first
    made.forget(first)
    assert made.pick() is second


def test_nothing_is_dialed_before_the_first_call() -> None:
    fresh: Core = ChannelCore(GrpcPoolPolicy(min=5), Even())
    assert fresh.dials_wanted(0.0) == 0
    fresh.is_started = True
    assert fresh.dials_wanted(0.0) == 5
    fresh.dialing = 3
    assert fresh.dials_wanted(0.0) == 2


@pytest.mark.parametrize(
    ("loads", "dialing", "wanted"),
    [((80, 80), 0, 1), ((80, 79), 0, 0), ((80, 80), 1, 0), ((80, 80, 80), 0, 0)],
)
def test_one_more_when_all_are_busy(loads: tuple[int, ...], dialing: int, wanted: int) -> None:
    made = core(*(FakeChannel(load) for load in loads), min=2, max=3)
    made.dialing = dialing
    assert made.dials_wanted(0.0) == wanted


def test_one_more_when_somebody_waits() -> None:
    made = core(FakeChannel())
    made.enqueue(Ticket("a", 1.0))
    assert made.dials_wanted(0.0) == 1


def test_failed_dials_pause_longer_and_longer_unless_somebody_waits() -> None:
    made = core(min=2)
    pauses = []
    for _ in range(9):
        made.dialing = 1
        assert made.dial_failed(0.0) is None
        pauses.append(made.paused_until)
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert made.dials_wanted(4.9) == 0
    assert made.dials_wanted(5.0) == 2
    made.enqueue(Ticket("a", 1.0))
    assert made.dials_wanted(0.0) == 2
    made.dialing = 1
    made.dialed(FakeChannel(), 0.0)
    assert (made.pause_s, made.paused_until) == (0.0, 0.0)


def test_a_failed_dial_fails_the_oldest_ticket_when_no_channel_is_open() -> None:
    made = core()
    first, second = Ticket("a", 1.0), Ticket("b", 1.0)
    made.enqueue(first)
    made.enqueue(second)
    made.dialing = 1
    assert made.dial_failed(0.0) is first
    made.dialing = 1
    made.dialed(FakeChannel(), 0.0)
    made.dialing = 1
    assert made.dial_failed(0.0) is None
    assert list(made.waiting) == [second]


def test_ages_are_spread() -> None:
    channels = [FakeChannel(load=1) for _ in range(10)]
    made = core(*channels, min=10, max_age="100s")
    assert made.due_to_retire(89.0) == []
    retired = [len(made.due_to_retire(float(now))) for now in range(90, 111)]
    assert sum(retired) == 10
    assert max(retired) <= 2
    assert made.next_due() is None
    assert made.pick() is None


def test_idle_channels_beyond_the_least_are_closed_the_longest_idle_first() -> None:
    old, young, busy = FakeChannel(idle_since=0.0), FakeChannel(idle_since=5.0), FakeChannel(load=1)
    made = core(young, old, busy, min=2, idle="10s", max_age="1000s")
    assert made.next_due() == 10.0
    assert made.due_to_retire(9.0) == []
    assert made.due_to_retire(16.0) == [old]
    assert made.channels == [young, busy]
    assert made.next_due() is not None
    assert made.next_due() > 800  # type: ignore[operator]  # not None, as asserted


def test_a_forgotten_channel_is_gone_once() -> None:
    channel = FakeChannel()
    made = core(channel)
    made.forget(channel)
    made.forget(channel)
    assert made.pick() is None


def test_the_queue_is_bounded_and_gives_up() -> None:
    made = core(queue=2)
    tickets = [Ticket(name, at) for name, at in (("a", 1.0), ("b", math.inf), ("c", 1.0))]
    assert [made.enqueue(ticket) for ticket in tickets] == [True, True, False]
    assert made.give_up(1.0) == [tickets[0]]
    made.withdraw(tickets[1])
    made.withdraw(tickets[1])
    assert not made.waiting


def test_what_drains_takes_no_calls_and_still_counts_its_own() -> None:
    old, busy, idle = FakeChannel(3), FakeChannel(2), FakeChannel(idle_since=1.0)
    made = core(old, busy, idle, max=7)
    made.drains(old)
    assert made.draining == {old}
    assert old not in made.channels
    assert made.calls == 5
    assert made.connections == {"active": 2, "idle": 1, "connecting": 0}
    assert made.snapshot() == {
        "channels": 2,
        "draining": 1,
        "dialing": 0,
        "calls": 5,
        "waiting": 0,
        "max": 7,
    }
    made.forget(old)
    assert not made.draining


def test_what_is_due_to_retire_drains() -> None:
    channel = FakeChannel(1)
    made = core(channel)
    assert made.due_to_retire(math.inf) == [channel]
    assert made.draining == {channel}


# ------------------------------------------------------------------ the concurrency limit
def limited(*channels: FakeChannel, most: int) -> Core:
    limiter = Gradient(ConcurrencyPolicy(mode="adaptive", least=1, most=most))
    made: Core = ChannelCore(GrpcPoolPolicy(min=1), Even(), limiter)
    made.is_started = True
    for channel in channels:
        made.dialing += 1
        made.dialed(channel, 0.0)
    return made


def test_above_the_limit_no_channel_is_picked_or_opened() -> None:
    one, other = FakeChannel(2), FakeChannel(1)
    made = limited(one, other, most=3)
    made.enqueue(Ticket("call", 1.0))
    assert made.lease_limit == 3
    assert made.is_at_limit
    assert made.pick() is None
    assert made.room(other) == 0
    assert made.dials_wanted(0.0) == 0
    other.load = 0
    assert made.pick() is other
    assert made.room(other) == 1


def test_no_more_is_given_than_the_limit_leaves() -> None:
    channel = FakeChannel(1)
    made = limited(channel, most=3)
    for index in range(5):
        made.enqueue(Ticket(f"{index}", 1.0))
    assert made.room(channel) == 2


def test_without_a_limit_the_channels_are_the_limit() -> None:
    channel = FakeChannel(4000, capacity=2)
    made = core(channel, max=50, streams=80)
    made.sample(1.0, made.calls)
    for index in range(5):
        made.enqueue(Ticket(f"{index}", 1.0))
    assert (made.lease_limit, made.is_at_limit, made.room(channel)) == (4000, False, 2)


def test_the_limit_follows_the_spans() -> None:
    made = limited(FakeChannel(20), most=100)
    for _ in range(20):
        made.sample(0.1, made.calls)
    assert made.lease_limit > 20
