from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from proxy.caching.guard import Guard
from tests.support.caching_tiers import ScriptedTier
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Bench:
    def __init__(self, timeout_s: float = 30.0) -> None:
        self.clock = FakeClock()
        self.made: list[ScriptedTier] = []
        self.prepare: Callable[[ScriptedTier], None] = lambda tier: None
        self.guard = Guard(self.make, timeout_s, self.clock)

    def make(self) -> ScriptedTier:
        tier = ScriptedTier()
        self.prepare(tier)
        self.made.append(tier)
        return tier

    async def size(self) -> int:
        return await self.guard.ask("size", lambda tier: tier.size(), -1)


def failing(tier: ScriptedTier) -> None:
    tier.error = ConnectionError("refused")


async def test_a_healthy_storage_answers_and_is_made_once() -> None:
    bench = Bench()
    assert (await bench.size(), await bench.size()) == (0, 0)
    assert (len(bench.made), bench.guard.errors) == (1, {})


async def test_a_failure_is_a_default_a_count_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.prepare = failing
    with caplog.at_level(logging.WARNING):
        assert await bench.size() == -1
    assert bench.guard.errors == {"size": 1}
    assert bench.made[0].is_closed
    assert "refused" in caplog.text


async def test_a_sick_storage_is_left_alone_for_longer_and_longer() -> None:
    bench = Bench()
    bench.prepare = failing
    pauses = []
    for _ in range(7):
        await bench.size()
        before = bench.clock.now()
        while bench.guard.is_paused:
            assert await bench.size() == -1
            bench.clock.advance(0.5)
        pauses.append(bench.clock.now() - before)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert len(bench.made) == 7
    bench.prepare = lambda tier: None
    assert await bench.size() == 0
    failing(bench.made[-1])
    await bench.size()
    bench.clock.advance(1.0)
    assert not bench.guard.is_paused


async def test_a_late_answer_is_a_miss() -> None:
    bench = Bench(timeout_s=0.0)
    bench.prepare = lambda tier: tier.hold()
    assert await bench.size() == -1
    assert bench.guard.errors == {"size": 1}


async def test_a_storage_that_cannot_be_made_is_a_miss() -> None:
    def never() -> ScriptedTier:
        raise OSError("no such directory")

    guard = Guard(never, 1.0, FakeClock())
    assert await guard.ask("read", lambda tier: tier.size(), -1) == -1
    await guard.close()


async def test_failures_at_once_pause_once() -> None:
    bench = Bench()
    bench.prepare = lambda tier: tier.hold()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.size()) for _ in range(3)]
        await asyncio.sleep(0)
        failing(bench.made[0])
        bench.made[0].release()
    assert [task.result() for task in asking] == [-1] * 3
    assert bench.guard.errors == {"size": 3}
    bench.clock.advance(1.0)
    assert not bench.guard.is_paused


async def test_a_storage_that_does_not_close_is_let_go() -> None:
    bench = Bench()
    await bench.size()
    failing(bench.made[0])
    await bench.guard.close()
    await bench.guard.close()
    assert bench.guard.errors == {}


async def test_cancelling_the_caller_blames_nobody() -> None:
    bench = Bench()
    bench.prepare = lambda tier: tier.hold()
    asking = asyncio.get_running_loop().create_task(bench.size())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert bench.guard.errors == {}
