"""A call that finds the backend idle and nobody beside it takes no longer through a lane than past it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy.batching.lane import Batcher
from proxy.errors import DeadlineExceeded, Reset
from proxy.exchange import Reply, Stream
from tests.support.batching import (
    ADAPTIVE,
    JSON_FIELDS,
    Stage,
    Subject,
    infer_call,
    policy,
    predict,
    predict_call,
    predictions,
    turns,
)

if TYPE_CHECKING:
    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Call

OFF = policy(mode="off")


class PromptUpstream:
    """Waits for nothing but the one future that the test settles."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def exchange(self, call: Call) -> Reply:
        """The `Upstream` protocol."""
        self.calls.append(call)
        return await self.answered


def newest(*instances: object, deadline: float = 1e9) -> Call:
    """A call that was read last."""
    call = predict_call(*instances, deadline=deadline)
    call.is_newest = True
    return call


@pytest.mark.parametrize("how", [OFF, ADAPTIVE], ids=["past the lanes", "alone in a lane"])
async def test_nothing_is_waited_for_but_the_backend(stage: Stage, how: BatchPolicy) -> None:
    upstream = PromptUpstream()
    stage.batcher = Batcher(upstream, stage.clock, stage.events)
    call = newest(1.5)
    walk = stage.batcher.submit(call, Subject(), how)
    assert walk.send(None) is upstream.answered  # what a task would wait for: the loop has not turned yet
    assert upstream.calls == [call]
    upstream.answered.set_result(predict(call))
    with pytest.raises(StopIteration) as end:
        walk.send(None)
    assert predictions(end.value.value) == [3.0]


async def test_it_is_counted_and_learned_from_like_any_batch(stage: Stage) -> None:
    call = newest(1.5)
    task = stage.submit(call)
    await turns()
    stage.clock.advance(0.007)
    stage.upstream.release()
    assert predictions(await task) == [3.0]
    await turns()
    assert call.batch == b"size=1; trigger=idle"
    assert stage.events.batches == [("digits", 1, "idle", 0.0)]
    state = json.loads(json.dumps(stage.batcher.snapshot()))
    assert state["in_flight"] == 0
    assert [(last["items"], last["took_ms"]) for last in state["paths"][0]["last"]] == [(1, 7.0)]


async def test_the_last_that_was_read_takes_the_others_of_its_turn_along(stage: Stage) -> None:
    tasks = [stage.submit(predict_call(0.0)), stage.submit(predict_call(1.0)), stage.submit(newest(2.0))]
    await asyncio.sleep(0)
    assert stage.events.batches == [("digits", 3, "idle", 0.0)]
    await turns()
    stage.upstream.release()
    assert [predictions(await task) for task in tasks] == [[0.0], [2.0], [4.0]]


async def test_it_waits_for_a_slot_like_any_other(stage: Stage) -> None:
    await stage.block()
    task = stage.submit(newest(1.0))
    await turns()
    assert len(stage.upstream.calls) == 1
    stage.upstream.release()
    await turns()
    stage.upstream.release()
    assert predictions(await task) == [2.0]


async def test_those_who_came_meanwhile_leave_in_the_turn_of_its_answer(stage: Stage) -> None:
    upstream = PromptUpstream()
    stage.batcher = Batcher(upstream, stage.clock, stage.events)
    first = newest(1.0)
    walk = stage.batcher.submit(first, Subject(), ADAPTIVE)
    walk.send(None)
    others = [stage.submit(predict_call(float(k))) for k in (2, 3)]
    await turns()
    upstream.answered.set_result(predict(first))
    with pytest.raises(StopIteration):
        walk.send(None)
    assert [batch[1:3] for batch in stage.events.batches] == [(1, "idle"), (2, "slot_free")]
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_a_caller_who_leaves_ends_the_exchange_and_frees_the_slot(stage: Stage) -> None:
    call = newest(1.0)
    task = stage.submit(call)
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.upstream.cancelled == [call]
    next_task = stage.submit(newest(2.0))
    await turns()
    stage.upstream.release()
    assert predictions(await next_task) == [4.0]


async def test_a_failure_is_the_callers_and_frees_the_slot(stage: Stage) -> None:
    def broken(_: Call) -> Reply:
        raise Reset("gone")

    stage.upstream.answer = broken
    for _ in range(2):
        task = stage.submit(newest(1.0))
        await turns()
        stage.upstream.release()
        with pytest.raises(Reset):
            await task
        await turns()
    assert stage.batcher.snapshot()["in_flight"] == 0


async def test_one_that_is_too_late_does_not_leave(stage: Stage) -> None:
    stage.clock.advance(5.0)
    with pytest.raises(DeadlineExceeded):
        await stage.submit(newest(1.0, deadline=5.0))
    assert stage.upstream.calls == []


# ------------------------------------------------------------------ sent before it is examined
def unmergeable() -> Call:
    """A call that was read last and is no V1 request."""
    call = infer_call(b"/v1/models/digits:predict", b"[]")
    call.is_newest = True
    return call


async def test_it_is_sent_before_anybody_has_looked_at_it(stage: Stage) -> None:
    upstream = PromptUpstream()
    stage.batcher = Batcher(upstream, stage.clock, stage.events)
    call = newest(1.5)
    walk = stage.batcher.submit(call, Subject(), ADAPTIVE)
    walk.send(None)
    assert upstream.calls == [call]
    assert stage.events.batches == []
    await turns()
    assert stage.events.batches == [("digits", 1, "idle", 0.0)]
    assert call.batch == b"size=1; trigger=idle"
    walk.close()


async def test_an_answer_that_comes_before_the_loop_has_turned_counts_too(stage: Stage) -> None:
    upstream = PromptUpstream()
    upstream.answered.set_result(predict(predict_call(1.5)))
    stage.batcher = Batcher(upstream, stage.clock, stage.events)
    call = newest(1.5)
    with pytest.raises(StopIteration):
        stage.batcher.submit(call, Subject(), ADAPTIVE).send(None)
    assert stage.events.batches == [("digits", 1, "idle", 0.0)]
    assert call.batch == b"size=1; trigger=idle"
    await turns()
    assert stage.batcher.snapshot()["in_flight"] == 0


async def test_one_that_fills_a_batch_says_so(stage: Stage) -> None:
    task = stage.submit(newest(*map(float, range(100))))
    await turns()
    assert [batch[1:3] for batch in stage.events.batches] == [(100, "full")]
    stage.upstream.release()
    assert predictions(await task) == [2.0 * number for number in range(100)]


async def test_one_that_is_never_merged_is_forwarded_and_holds_no_slot(stage: Stage) -> None:
    first = stage.submit(unmergeable())
    await turns()
    assert stage.events.refusals == [("digits", "form")]
    assert stage.events.batches == []
    second = stage.submit(newest(1.0))
    await turns()
    assert len(stage.upstream.calls) == 2
    stage.upstream.answer = lambda _: Reply(400, (), b"what?")
    stage.upstream.release_all()
    assert [(await task).status for task in (first, second)] == [400, 400]
    await turns()
    assert stage.batcher.snapshot()["in_flight"] == 0


async def test_who_waited_for_the_slot_of_one_that_is_never_merged_leaves_at_once(stage: Stage) -> None:
    upstream = PromptUpstream()
    stage.batcher = Batcher(upstream, stage.clock, stage.events)
    walk = stage.batcher.submit(unmergeable(), Subject(), ADAPTIVE)
    walk.send(None)
    other = stage.batcher.submit(predict_call(1.0), Subject(), ADAPTIVE)
    other.send(None)
    await turns()
    assert len(upstream.calls) == 2
    assert stage.events.batches == [("digits", 1, "slot_free", 0.0)]
    for coroutine in (walk, other):
        coroutine.close()


async def test_after_one_that_is_never_merged_calls_are_examined_first(stage: Stage) -> None:
    known = []
    for call in (unmergeable(), unmergeable(), newest(1.0), newest(2.0)):
        stage.submit(call, policy(inflight=8))
        await asyncio.sleep(0)  # it is sent
        known.append(len(stage.events.batches) + len(stage.events.refusals))
        await turns()
    assert known == [0, 2, 3, 3]
    assert len(stage.upstream.calls) == 4


async def test_a_body_that_is_still_coming_is_examined_first(stage: Stage) -> None:
    call = newest()
    call.body = Stream(None)
    task = stage.submit(call)
    await asyncio.sleep(0)
    assert stage.events.refusals == [("digits", "streamed_body")]
    stage.upstream.answer = lambda _: Reply(200, JSON_FIELDS, b"{}")
    await turns()
    stage.upstream.release()
    assert (await task).status == 200
