import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from proxy.demo.finetimer import FineTimer


@pytest.fixture(params=["timerfd", "loop"])
async def timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FineTimer]:
    if request.param == "loop":
        monkeypatch.setattr(sys, "platform", "elsewhere")
    fine = FineTimer(asyncio.get_running_loop())
    yield fine
    fine.close()


async def test_callbacks_run_in_the_order_of_their_instants(timer: FineTimer) -> None:
    ran, over = [], asyncio.Event()
    now = timer.now()
    timer.call_at(now + 0.003, over.set)
    timer.call_at(now + 0.002, lambda: ran.append("second"))
    timer.call_at(now + 0.001, lambda: ran.append("first"))
    timer.call_at(now - 1, lambda: ran.append("at once"))
    await over.wait()
    assert ran == ["at once", "first", "second"]


async def test_never_early(timer: FineTimer) -> None:
    over = asyncio.Event()
    due = timer.now() + 0.00515
    timer.call_at(due, over.set)
    await over.wait()
    assert timer.now() >= due


async def test_a_cancelled_callback_does_not_run(timer: FineTimer) -> None:
    ran, over = [], asyncio.Event()
    timer.call_later(0.001, lambda: ran.append("cancelled")).cancel()
    timer.call_later(0.002, over.set)
    await over.wait()
    assert ran == []


async def test_a_callback_may_set_the_next(timer: FineTimer) -> None:
    over = asyncio.Event()
    timer.call_later(0.001, lambda: timer.call_later(0.001, over.set))
    await over.wait()


async def test_closing_withdraws_everything(timer: FineTimer) -> None:
    ran, over = [], asyncio.Event()
    timer.call_later(0.0, lambda: ran.append("late"))
    timer.close()
    asyncio.get_running_loop().call_later(0.002, over.set)
    await over.wait()
    assert ran == []


async def test_a_callback_that_fails_does_not_keep_later_ones_from_running(timer: FineTimer) -> None:
    loop, failures, over = asyncio.get_running_loop(), [], asyncio.Event()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    timer.call_later(0.001, lambda: 1 // 0)
    timer.call_later(0.002, over.set)
    await over.wait()
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


async def test_a_callback_may_close_the_timer(timer: FineTimer) -> None:
    over = asyncio.Event()

    def close() -> None:
        timer.close()
        over.set()

    timer.call_later(0.001, close)
    await over.wait()
