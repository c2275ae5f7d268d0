from __future__ import annotations

import asyncio
import math

from proxy.pooling.alarm import Alarm, sleep
from tests.support.clock import FakeClock
from tests.support.pool_rig import settle


class Woken:
    """Remembers when it was woken; `next_at` is what it asks for then."""

    def __init__(self, clock: FakeClock) -> None:
        self.at: list[float] = []
        self.next_at = math.inf
        self.alarm = Alarm(clock, self._due)

    def _due(self, now: float) -> float:
        self.at.append(now)
        next_at, self.next_at = self.next_at, math.inf
        return next_at


def test_it_wakes_at_the_earliest_instant() -> None:
    clock = FakeClock(0.0)
    woken = Woken(clock)
    for when in (5.0, 3.0, 4.0):
        woken.alarm.arm(when)
    assert len(clock.pending) == 1
    clock.advance(10.0)
    assert woken.at == [3.0]


def test_it_wakes_again_when_asked_to() -> None:
    clock = FakeClock(0.0)
    woken = Woken(clock)
    woken.next_at = 7.0
    woken.alarm.arm(3.0)
    clock.advance(10.0)
    assert woken.at == [3.0, 7.0]
    assert woken.alarm.armed_for == math.inf


def test_it_never_wakes_after_the_end() -> None:
    clock = FakeClock(0.0)
    woken = Woken(clock)
    woken.alarm.arm(3.0)
    woken.alarm.cancel()
    woken.alarm.arm(4.0)
    clock.advance(10.0)
    assert woken.at == []
    assert not clock.pending


def test_it_can_end_before_it_began() -> None:
    clock = FakeClock(0.0)
    Woken(clock).alarm.cancel()
    assert not clock.pending


async def test_sleep_takes_the_clocks_time() -> None:
    clock = FakeClock()
    task = asyncio.get_running_loop().create_task(sleep(clock, 2.0))
    await settle()
    clock.advance(1.9)
    await settle()
    assert not task.done()
    clock.advance(0.1)
    await settle()
    assert task.done()


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.get_running_loop().create_task(sleep(clock, 2.0))
    await settle()
    task.cancel()
    await settle()
    assert not clock.pending
