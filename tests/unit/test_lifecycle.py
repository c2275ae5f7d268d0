from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.ingress.policy import DrainPolicy
from proxy.lifecycle import Lifecycle, State
from tests.support.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Part:
    """A component that writes down what happens to it and can be made to wait or fail."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary
        self.deadline = 0.0
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        self.fails_at = ""

    def _note(self, verb: str) -> None:
        self.diary.append(f"{verb} {self.name}")
        if self.fails_at == verb:
            raise OSError(f"{self.name} cannot {verb}")

    async def start(self) -> None:
        self._note("start")
        await self.may_start.wait()

    async def drain(self, deadline: float) -> None:
        self.deadline = deadline
        self._note("drain")
        await self.is_empty.wait()
        self.diary.append(f"empty {self.name}")

    async def stop(self) -> None:
        self._note("stop")


class World:
    """A lifecycle with two parts, its clock and its diary."""

    def __init__(self, policy: DrainPolicy) -> None:
        self.clock = ManualClock()
        self.life = Lifecycle(self.clock, policy)
        self.diary: list[str] = []
        self.life.on_change(lambda state: self.diary.append(state.upper()))
        self.parts = [Part("pool", self.diary), Part("listener", self.diary)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.life.run(self.parts))
            await turns()
            yield task


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    return World(DrainPolicy())


async def test_a_whole_life(world: World) -> None:
    async with world.running():
        assert world.diary == ["start pool", "start listener", "READY"]
        assert (world.life.is_started, world.life.is_draining) == (True, False)
        world.life.request_drain()
    assert world.diary[3:] == [
        "DRAINING",
        "drain pool",
        "empty pool",
        "drain listener",
        "empty listener",
        "stop listener",
        "stop pool",
        "STOPPED",
    ]
    assert (world.life.is_started, world.life.is_draining) == (True, True)
    assert world.clock.pending == 0


async def test_readiness_is_withdrawn_before_anything_else_happens(world: World) -> None:
    async with world.running():
        world.life.request_drain()
        assert world.life.state is State.DRAINING
        assert world.diary[-1] == "DRAINING"


async def test_admitted_requests_are_waited_for(world: World) -> None:
    listener = world.parts[1]
    listener.is_empty.clear()
    async with world.running() as task:
        world.life.request_drain()
        await turns()
        world.clock.advance(24.9)
        await turns()
        assert not task.done()
        assert "stop listener" not in world.diary
        listener.is_empty.set()
    assert "empty listener" in world.diary
    assert listener.deadline == 1025.0


async def test_grace_bounds_the_wait(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.parts[1].is_empty.clear()
    async with world.running():
        world.life.request_drain()
        await turns()
        world.clock.advance(25.0)
    assert world.diary[-3:] == ["stop listener", "stop pool", "STOPPED"]
    assert "empty listener" not in world.diary
    assert "grace is over" in caplog.text


async def test_ready_lag_keeps_the_listener_open_for_late_comers() -> None:
    world = World(DrainPolicy.model_validate({"ready_lag": "5s"}))
    async with world.running():
        world.life.request_drain()
        await turns()
        world.clock.advance(4.9)
        await turns()
        assert world.diary[-1] == "DRAINING"
        world.clock.advance(0.1)
    assert "drain listener" in world.diary
    assert world.parts[1].deadline == 1030.0


async def test_the_second_signal_ends_the_wait(world: World) -> None:
    world.parts[1].is_empty.clear()
    async with world.running():
        world.life.on_signal()
        await turns()
        world.life.on_signal()
        world.life.on_signal()
    assert world.diary[-3:] == ["stop listener", "stop pool", "STOPPED"]
    assert "empty listener" not in world.diary
    assert world.clock.pending == 0


async def test_the_second_signal_ends_the_lag() -> None:
    world = World(DrainPolicy.model_validate({"ready_lag": "5s"}))
    async with world.running():
        world.life.on_signal()
        await turns()
        world.life.on_signal()
    assert "drain listener" not in world.diary
    assert world.clock.pending == 0


async def test_asking_twice_for_a_drain_is_asking_once(world: World) -> None:
    world.parts[1].is_empty.clear()
    async with world.running() as task:
        world.life.request_drain()
        world.life.request_drain()
        await turns()
        assert not task.done()
        assert world.diary.count("DRAINING") == 1
        world.parts[1].is_empty.set()


async def test_a_stop_without_a_drain(world: World) -> None:
    async with world.running():
        world.life.request_stop()
    assert world.diary[3:] == ["DRAINING", "stop listener", "stop pool", "STOPPED"]


async def test_a_drain_while_starting_stops_what_was_begun(world: World) -> None:
    world.parts[0].may_start.clear()
    async with world.running():
        assert world.life.state is State.STARTING
        assert not world.life.is_started
        world.life.request_drain()
    assert world.diary == ["start pool", "DRAINING", "stop pool", "STOPPED"]


async def test_a_signal_before_the_run_starts_nothing(world: World) -> None:
    world.life.on_signal()
    async with world.running():
        pass
    assert world.diary == ["DRAINING", "STOPPED"]


async def test_what_cannot_start_is_told_as_it_is(world: World) -> None:
    world.parts[1].fails_at = "start"
    with pytest.raises(OSError, match="listener cannot start"):
        await world.life.run(world.parts)
    assert world.diary[-4:] == ["DRAINING", "stop listener", "stop pool", "STOPPED"]


async def test_a_timeout_of_a_component_is_its_own_failure(world: World) -> None:
    async def late() -> None:
        raise TimeoutError("the backend did not answer")

    world.parts[0].start = late  # type: ignore[method-assign]  # one verb of a fake replaced
    with pytest.raises(TimeoutError, match="the backend did not answer"):
        await world.life.run(world.parts)


@pytest.mark.parametrize("verb", ["drain", "stop"])
async def test_one_failure_at_the_end_does_not_rob_the_others(
    world: World, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.parts[1].fails_at = verb
    async with world.running():
        world.life.request_drain()
    assert {"empty pool", "stop listener", "stop pool"} <= set(world.diary)
    assert world.life.state is State.STOPPED
    assert f"Part did not {verb} cleanly" in caplog.text


async def test_waiting_for_the_drain(world: World) -> None:
    world.parts[1].is_empty.clear()
    async with world.running(), asyncio.TaskGroup() as tasks:
        waiter = tasks.create_task(world.life.wait_drained())
        world.life.request_drain()
        await turns()
        assert not waiter.done()
        world.parts[1].is_empty.set()
    assert waiter.done()


async def test_spawned_tasks_end_with_the_run(world: World) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async with world.running():
        task = world.life.spawn(forever(), name="prober")
        await turns()
        world.life.request_drain()
    assert task.cancelled()
    assert task.get_name() == "prober"


async def test_a_failing_task_ends_the_run_in_order(world: World) -> None:
    async def broken() -> None:
        raise ValueError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        async with world.running():
            world.life.spawn(broken(), name="prober")
    assert caught.group_contains(ValueError, match="a bug")
    assert world.diary[-3:] == ["stop listener", "stop pool", "STOPPED"]


async def test_several_failures_are_told_together(world: World) -> None:
    async def broken(word: str) -> None:
        raise ValueError(word)

    def spawn_both(state: State) -> None:
        if state is State.READY:
            world.life.spawn(broken("one"), name="one")
            world.life.spawn(broken("two"), name="two")

    world.life.on_change(spawn_both)
    with pytest.raises(ExceptionGroup) as caught:
        await world.life.run(world.parts)
    assert sorted(map(str, caught.value.exceptions)) == ["one", "two"]


async def test_nothing_can_be_spawned_before_the_run(world: World) -> None:
    async def work() -> None:
        return None

    coroutine = work()
    with pytest.raises(RuntimeError, match="only while"):
        world.life.spawn(coroutine, name="early")
    coroutine.close()


async def test_signals_are_handled_within_the_block_only(world: World) -> None:
    heard = asyncio.Event()
    before = signal.getsignal(signal.SIGUSR1)
    with world.life.signals({signal.SIGUSR1: heard.set}):
        async with world.running():
            os.kill(os.getpid(), signal.SIGUSR1)
            await heard.wait()
            os.kill(os.getpid(), signal.SIGTERM)
    assert world.life.state is State.STOPPED
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
