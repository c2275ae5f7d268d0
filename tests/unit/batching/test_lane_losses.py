"""Batches whose connection breaks: an item may kill the process that works on it, or the backend is away."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.errors import ConnectFailed, ProxyError, Reset
from proxy.exchange import Call, Reply
from tests.support.batching import Stage, policy, predict, predict_call, turns

if TYPE_CHECKING:
    from collections.abc import Callable


def crashes(*values: float, error: type[ProxyError] = Reset) -> Callable[[Call], Reply]:
    """A model whose process ends at any call about one of `values`, which meets `error`."""

    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        if set(values) & set(msgspec.json.decode(call.body)["instances"]):
            raise error("gone")
        return predict(call)

    return answer


async def test_an_item_that_kills_the_backend_costs_nobody_else_an_answer(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = crashes(5.5)
    found = await asyncio.gather(
        *[stage.submit(predict_call(k + 0.5)) for k in range(10)], return_exceptions=True
    )
    assert [type(one) for one in found] == [Reset if k == 5 else Reply for k in range(10)]
    sent = [call.body for call in stage.upstream.calls]
    assert sum(b"5.5" in body for body in sent if isinstance(body, bytes)) == 3
    assert stage.events.isolations == ["digits"]
    with pytest.raises(Reset):
        await stage.submit(predict_call(5.5))
    assert stage.events.refusals == [("digits", "quarantined")]


async def test_a_backend_that_is_away_is_not_asked_for_each_part(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = crashes(*[k + 0.5 for k in range(16)], error=ConnectFailed)
    found = await asyncio.gather(
        *[stage.submit(predict_call(k + 0.5)) for k in range(16)], return_exceptions=True
    )
    assert {type(one) for one in found} == {ConnectFailed}
    assert len(stage.upstream.calls) == 1


async def test_where_repeating_is_not_safe_a_lost_connection_is_everybodys(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = crashes(0.5)
    calls = [predict_call(k + 0.5) for k in range(4)]
    for call in calls:
        call.idempotent = False
    found = await asyncio.gather(*[stage.submit(call) for call in calls], return_exceptions=True)
    assert {type(one) for one in found} == {Reset}
    assert len(stage.upstream.calls) == 1


async def test_trials_that_may_kill_the_backend_are_made_one_at_a_time(stage: Stage) -> None:
    stage.upstream.answer = crashes(5.5)
    four = policy(inflight=4)
    tasks = [stage.submit(predict_call(k + 0.5), four) for k in range(10)]
    await turns()
    while not all(task.done() for task in tasks):
        assert stage.upstream.in_flight == 1
        stage.upstream.release()
        await turns()
    assert len(stage.upstream.calls) == 1 + 4 + 3


class Local:
    """What a frame holds."""


async def test_a_backend_that_falls_by_itself_is_remembered_without_its_frames(stage: Stage) -> None:
    held = []

    def answer(_: Call) -> Reply:
        local = Local()
        held.append(weakref.ref(local))
        raise Reset("gone")

    stage.upstream.release_all()
    stage.upstream.answer = answer
    for asked in (3, 4):
        found = await asyncio.gather(
            *[stage.submit(predict_call(k + 0.5)) for k in range(8)], return_exceptions=True
        )
        assert {type(one) for one in found} == {Reset}
        assert len(stage.upstream.calls) == asked
    gc.collect()
    assert [local() for local in held] == [None] * 4


async def test_a_lost_batch_is_shown_without_a_status(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = crashes(0.5, 1.5)
    await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)], return_exceptions=True)
    await turns()
    paths = stage.batcher.snapshot()["paths"]
    assert isinstance(paths, list)
    assert [batch["status"] for batch in paths[0]["last"]] == [0]
