from __future__ import annotations

import asyncio

import pytest

from proxy.pooling.hedging import first_of
from tests.support.pool_rig import settle


class Race:
    """Two copies whose outcomes a test decides; `good` ones are strings, others are not."""

    def __init__(self, *, has_second: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[object] = loop.create_future()
        self.second: asyncio.Future[object] = loop.create_future()
        self.has_second = has_second
        self.is_second_sent = False
        self.discarded: list[object] = []

    async def _await(self, outcome: asyncio.Future[object]) -> object:
        return await outcome

    def _copy(self) -> object:
        self.is_second_sent = self.has_second
        return self._await(self.second) if self.has_second else None

    def start(self, delay_s: float = 0.0) -> asyncio.Task[object]:
        return asyncio.get_running_loop().create_task(
            first_of(
                self._await(self.first),
                delay_s,
                self._copy,  # type: ignore[arg-type]  # a coroutine, seen as an object
                is_good=lambda outcome: isinstance(outcome, str),
                discard=self.discarded.append,
            )
        )


async def sent(race: Race) -> None:
    while not race.is_second_sent:  # noqa: ASYNC110  the delay is the event loop's own
        await asyncio.sleep(0)


async def test_a_quick_answer_needs_no_copy() -> None:
    race = Race()
    race.first.set_result("first")
    assert await race.start(delay_s=30.0) == "first"
    assert not race.is_second_sent


async def test_the_copy_may_win() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.second.set_result("second")
    assert await task == "second"
    assert race.first.cancelled()


async def test_the_first_may_still_win() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.first.set_result("first")
    assert await task == "first"
    assert race.second.cancelled()


async def test_without_budget_there_is_no_copy() -> None:
    race = Race(has_second=False)
    task = race.start()
    await settle()
    race.first.set_result("first")
    assert await task == "first"


async def test_a_failure_waits_for_the_other() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.second.set_result(OSError())
    await settle()
    assert not task.done()
    race.first.set_result("first")
    assert await task == "first"


async def test_two_failures_are_a_failure() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.second.set_result(1)
    await settle()
    race.first.set_result(2)
    assert await task == 2


async def test_a_photo_finish_discards_the_other_answer() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.first.set_result("first")
    race.second.set_result("second")
    won = await task
    assert [won, *race.discarded] in (["first", "second"], ["second", "first"])


async def test_a_raised_error_ends_both() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.first.set_exception(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        await task
    assert race.second.cancelled()


async def test_cancelling_ends_both() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    task.cancel()
    await settle()
    assert task.cancelled()
    assert race.first.cancelled()
    assert race.second.cancelled()


async def test_cancelling_during_the_delay_ends_the_first() -> None:
    race = Race()
    task = race.start(delay_s=30.0)
    await settle()
    task.cancel()
    await settle()
    assert race.first.cancelled()


async def test_of_two_failures_one_is_discarded() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.first.set_result(1)
    await settle()
    race.second.set_result(2)
    assert await task == 2
    assert race.discarded == [1]


async def test_a_failure_is_discarded_for_the_others_answer() -> None:
    race = Race()
    task = race.start()
    await sent(race)
    race.second.set_result(2)
    await settle()
    race.first.set_result("first")
    assert await task == "first"
    assert race.discarded == [2]
