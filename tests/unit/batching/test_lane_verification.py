"""Answers from batches compared with answers alone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from proxy.errors import Reset
from proxy.exchange import Call, Reply
from tests.support.batching import (
    JSON_FIELDS,
    Stage,
    policy,
    predict,
    predict_call,
    turns,
)

VERIFIED = policy(verify="100%")


def normalise(call: Call) -> Reply:
    """A model whose answers depend on who else is in the batch."""
    assert isinstance(call.body, bytes)
    instances = msgspec.json.decode(call.body)["instances"]
    body = msgspec.json.encode({"predictions": [one + len(instances) for one in instances]})
    return Reply(200, JSON_FIELDS, body)


async def test_a_model_that_answers_differently_in_a_batch_is_not_batched_any_more(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = normalise
    await asyncio.gather(*[stage.submit(predict_call(k + 0.5), VERIFIED) for k in range(4)])
    await stage.batcher.drain()
    assert len(stage.upstream.calls) == 3
    assert "answers differently" in caplog.text
    await asyncio.gather(*[stage.submit(predict_call(k + 0.5), VERIFIED) for k in range(4)])
    assert stage.events.refusals == [("digits", "answers_differ")] * 4
    stage.batcher.forget("digits")
    await stage.submit(predict_call(0.5), VERIFIED)
    assert len(stage.events.refusals) == 4


async def test_comparisons_that_end_alike_at_once_raise_one_alarm(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.upstream.answer = normalise
    two = policy(verify="100%", inflight=2)
    for first in (1, 1.5):  # integers and fractions are not merged
        for k in range(3):
            stage.submit(predict_call(first + k), two)
    await turns()
    assert stage.upstream.in_flight == 2
    stage.upstream.release_all()
    await stage.batcher.drain()
    assert len(stage.upstream.calls) == 6
    assert caplog.text.count("answers differently") == 1


async def test_a_model_that_answers_alike_stays_batched(stage: Stage) -> None:
    stage.upstream.release_all()
    for _ in range(3):
        await asyncio.gather(*[stage.submit(predict_call(k + 0.5), VERIFIED) for k in range(4)])
    await stage.batcher.drain()
    assert len(stage.upstream.calls) == 6
    assert stage.events.refusals == []


@pytest.mark.parametrize("trouble", ["noise", "error", "failure", "second failure"])
async def test_what_cannot_be_compared_proves_nothing(stage: Stage, trouble: str) -> None:
    def answer(call: Call) -> Reply:
        number = len(stage.upstream.calls)
        if number > 1 and trouble == "error":
            raise Reset("gone")
        if number > {"failure": 1, "second failure": 2}.get(trouble, 99):
            return Reply(503, ())
        reply = predict(call)
        if number > 1:
            reply.body = b'{"predictions":[%d]}' % number
        return reply

    stage.upstream.release_all()
    stage.upstream.answer = answer
    await asyncio.gather(*[stage.submit(predict_call(k + 0.5), VERIFIED) for k in range(2)])
    await stage.batcher.drain()
    stage.upstream.answer = predict
    await stage.submit(predict_call(0.5), VERIFIED)
    assert stage.events.refusals == []


async def test_verifying_repeats_nothing_that_is_not_safe_to_repeat(stage: Stage) -> None:
    stage.upstream.release_all()
    calls = [predict_call(k + 0.5) for k in range(2)]
    for call in calls:
        call.idempotent = False
    await asyncio.gather(*[stage.submit(call, VERIFIED) for call in calls])
    await stage.batcher.drain()
    assert len(stage.upstream.calls) == 1
