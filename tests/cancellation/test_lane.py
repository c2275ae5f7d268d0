"""A caller that is cancelled at any await of the lanes: nothing stays behind, and nobody else notices.

The awaits are: the place in a lane; a batch of one, a merged call, the body of its answer; the parts and
the single calls of a batch that is taken apart; an answer that is there but not yet seen; a call that is
forwarded unmerged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Call, Reply, Stream
from tests.support.batching import Stage, infer_call, policy, predict, predict_call, predictions, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A held backend; afterwards nothing may be left in any lane."""
    stage = Stage()
    yield stage
    stage.upstream.release_all()
    await stage.batcher.drain()
    await turns()
    assert not list(stage.batcher.waiting())
    snapshot = stage.batcher.snapshot()
    assert snapshot["in_flight"] == 0
    assert all(slots["in_flight"] == slots["waiting"] == 0 for slots in snapshot["slots"])  # type: ignore[attr-defined]
    assert all(task.done() for task in stage.tasks)
    await stage.batcher.close()
    assert not stage.clock.pending


async def cancel(*tasks: asyncio.Task[Reply]) -> None:
    for task in tasks:
        task.cancel()
    await turns()
    assert all(task.cancelled() for task in tasks)


POSITIONS = [(0,), (1,), (3,), (0, 3), (0, 1, 2), (0, 1, 2, 3)]


@pytest.mark.parametrize("leavers", POSITIONS)
async def test_in_the_lane(stage: Stage, leavers: tuple[int, ...]) -> None:
    blocker = await stage.block()
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(4)]
    await turns()
    await cancel(*[tasks[index] for index in leavers])
    stage.upstream.release_all()
    assert predictions(await blocker) == [1.0]
    for index, task in enumerate(tasks):
        if index not in leavers:
            assert predictions(await task) == [2 * index + 1.0]
    assert not stage.upstream.cancelled


@pytest.mark.parametrize("leavers", POSITIONS)
async def test_in_a_batch(stage: Stage, leavers: tuple[int, ...]) -> None:
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(4)]
    await turns()
    assert len(stage.upstream.calls) == 1
    await cancel(*[tasks[index] for index in leavers])
    assert len(stage.upstream.cancelled) == (len(leavers) == 4)
    stage.upstream.release_all()
    for index, task in enumerate(tasks):
        if index not in leavers:
            assert predictions(await task) == [2 * index + 1.0]


def newest(number: float) -> Call:
    """A call that was read last: it may carry itself."""
    call = predict_call(number)
    call.is_newest = True
    return call


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("count", range(8))
async def test_on_the_way_out_with_the_last_that_was_read(stage: Stage, count: int, members: int) -> None:
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(members - 1)] + [stage.submit(newest(9.5))]
    await turns(count)
    await cancel(*tasks)
    follower = stage.submit(newest(7.5))
    await turns()
    stage.upstream.release_all()
    assert predictions(await follower) == [15.0]


@pytest.mark.parametrize("count", range(4))
async def test_on_the_way_back_of_a_call_that_carries_itself(stage: Stage, count: int) -> None:
    task = stage.submit(newest(1.5))
    await turns()
    waiting = stage.submit(newest(2.5))
    stage.upstream.release()
    await turns(count)
    task.cancel()
    await turns()
    assert task.cancelled() or predictions(task.result()) == [3.0]
    stage.upstream.release_all()
    assert predictions(await waiting) == [5.0]


@pytest.mark.parametrize("count", range(8))
async def test_on_the_way_out(stage: Stage, count: int) -> None:
    """All leave together, `count` turns of the loop after they came."""
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(3)]
    await turns(count)
    await cancel(*tasks)
    follower = stage.submit(predict_call(7.5))
    await turns()
    stage.upstream.release_all()
    assert predictions(await follower) == [15.0]


@pytest.mark.parametrize("count", range(8))
async def test_on_the_way_back(stage: Stage, count: int) -> None:
    """One leaves `count` turns of the loop after the backend answered; whatever it gets, the others get theirs."""
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(3)]
    await turns()
    stage.upstream.release()
    await turns(count)
    tasks[1].cancel()
    assert predictions(await tasks[0]) == [1.0]
    assert predictions(await tasks[2]) == [5.0]
    await turns()
    assert tasks[1].cancelled() or predictions(tasks[1].result()) == [3.0]


async def test_alone_on_the_backend(stage: Stage) -> None:
    task = await stage.block()
    await cancel(task)
    assert len(stage.upstream.cancelled) == 1


@pytest.mark.parametrize("is_newest", [False, True])
async def test_alone_on_the_backend_with_others_waiting(stage: Stage, is_newest: bool) -> None:
    blocker = stage.submit(newest(0.5)) if is_newest else await stage.block()
    await turns()
    waiting = stage.submit(predict_call(1.5))
    await turns()
    await cancel(blocker)
    await turns()
    assert len(stage.upstream.calls) == 2
    stage.upstream.release_all()
    assert predictions(await waiting) == [3.0]


async def test_while_the_answer_streams_in(stage: Stage) -> None:
    body = Stream(None)
    stage.upstream.answer = lambda _: Reply(200, (), body)
    stage.upstream.release_all()
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(2)]
    await turns()
    body.feed(b'{"predictions":[1')
    await turns()
    closed: list[bool] = []
    body.on_close(lambda: closed.append(True))
    await cancel(*tasks)
    assert closed


async def test_while_one_of_several_streams_in(stage: Stage) -> None:
    body = Stream(None)
    stage.upstream.answer = lambda _: Reply(200, (), body)
    stage.upstream.release_all()
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(2)]
    await turns()
    await cancel(tasks[0])
    body.feed(b'{"predictions":[1,2]}')
    body.end()
    assert predictions(await tasks[1]) == [2]


def refusing(poison: bytes) -> object:
    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        return Reply(400, (), b"no") if poison in call.body else predict(call)

    return answer


@pytest.mark.parametrize("leavers", [(0,), (2,), (5,), (0, 1), (0, 1, 2, 3, 4, 5)])
@pytest.mark.parametrize("steps", range(1, 6))
async def test_while_a_batch_is_taken_apart(stage: Stage, leavers: tuple[int, ...], steps: int) -> None:
    stage.upstream.answer = refusing(b"2.5")  # type: ignore[assignment]
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(6)]
    await turns()
    for _ in range(steps):
        if stage.upstream.in_flight:
            stage.upstream.release()
        await turns()
    for index in leavers:
        tasks[index].cancel()
    await turns()
    stage.upstream.release_all()
    for index, task in enumerate(tasks):
        if index not in leavers:
            reply = await task
            assert reply.status == (400 if index == 2 else 200)
            assert index == 2 or predictions(reply) == [2 * index + 1.0]


async def test_a_call_that_is_forwarded_unmerged(stage: Stage) -> None:
    task = stage.submit(infer_call(b"/p", b"not json"))
    await turns()
    await cancel(task)
    assert len(stage.upstream.cancelled) == 1


async def test_while_an_answer_is_verified(stage: Stage) -> None:
    verified = policy(verify="100%")
    tasks = [stage.submit(predict_call(k + 0.5), verified) for k in range(2)]
    await turns()
    stage.upstream.release()
    for task in tasks:
        await task
    await turns()
    assert stage.upstream.in_flight == 1  # the comparison goes on though nobody waits for it
    await stage.batcher.close()
    assert len(stage.upstream.cancelled) == 1


async def test_a_drain_that_is_given_up_gives_nothing_else_up(stage: Stage) -> None:
    task = await stage.block()
    drain = asyncio.get_running_loop().create_task(stage.batcher.drain())
    await turns()
    drain.cancel()
    await turns()
    assert not stage.upstream.cancelled
    stage.upstream.release()
    assert predictions(await task) == [1.0]


async def test_a_deadline_leaves_no_more_behind_than_a_caller_does(stage: Stage) -> None:
    tasks = [stage.submit(predict_call(k + 0.5, deadline=stage.clock.now() + 0.01)) for k in range(3)]
    await turns()
    waiting = stage.submit(predict_call(5.5, deadline=stage.clock.now() + 0.01))
    await turns()
    stage.clock.advance(0.02)
    await turns()
    assert all(task.done() for task in (*tasks, waiting))
    assert len(stage.upstream.cancelled) == 1
    await asyncio.gather(*tasks, waiting, return_exceptions=True)
