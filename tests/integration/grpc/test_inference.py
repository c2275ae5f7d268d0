"""Inference calls by gRPC through the whole proxy, a grpcio server behind it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio

from proxy.assembly import UpstreamComponent
from tests.integration.grpc.inference_rig import (
    INFER,
    POISON,
    Stage,
    asked,
    begin,
    blocked,
    metrics,
    output_of,
    queued,
    settled,
    staged,
    values_of,
    waiting,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


@pytest.mark.parametrize("is_raw", [True, False])
async def test_calls_that_wait_for_each_other_travel_together(stage: Stage, is_raw: bool) -> None:
    first = await blocked(stage)
    tasks = [begin(stage.infer(float(n), ident=f"id-{n}", is_raw=is_raw)) for n in range(1, 9)]
    await waiting(stage, 8)
    stage.model.is_open.set()
    answers = await asyncio.gather(*tasks)
    await first
    assert stage.model.sizes == [1, 8]
    assert [answer.id for answer in answers] == [f"id-{n}" for n in range(1, 9)]
    assert [values_of(answer.outputs[0], answer.raw_output_contents) for answer in answers] == [
        [2.0 * n] for n in range(1, 9)
    ]


async def test_a_lone_call_is_forwarded_byte_for_byte(stage: Stage) -> None:
    message = asked(1.0, ident="mine") + b"\x9a\x06\x03new"
    answer = await stage.channel.unary_unary(INFER)(message)
    assert answer == await stage.direct.unary_unary(INFER)(message)


async def test_a_bad_call_fails_alone(stage: Stage) -> None:
    first = await blocked(stage)
    tasks = [begin(stage.infer(value)) for value in (1.0, POISON, 3.0, 4.0)]
    await waiting(stage, 4)
    stage.model.is_open.set()
    good, bad, *others = [await settled(task) for task in tasks]
    assert (bad.code(), bad.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "bad luck")
    assert [values_of(answer.outputs[0], answer.raw_output_contents) for answer in (good, *others)] == [
        [2.0],
        [6.0],
        [8.0],
    ]
    await first


async def test_the_message_selects_the_policy_and_the_label(stage: Stage) -> None:
    first = await blocked(stage, "alone")
    tasks = [begin(stage.infer(float(n), model="alone")) for n in range(3)]
    await until(lambda: len(stage.model.sizes) == 4)
    stage.model.is_open.set()
    await asyncio.gather(first, *tasks)
    assert stage.model.sizes == [1, 1, 1, 1]
    labels = 'model="alone",outcome="ok",protocol="grpc",route="open-inference/ModelInfer"'
    assert f"pillion_requests_total{{{labels}}} 4" in await metrics(stage)


async def test_what_heads_say_about_merging_is_read_once_for_a_kind_of_call(stage: Stage) -> None:
    for number in range(5):
        await stage.infer(float(number), ident=str(number))
    (upstream,) = [part for part in stage.app._components if isinstance(part, UpstreamComponent)]
    assert len(upstream._batcher._intake._origins) == 1


async def test_calls_that_have_ended_leave_nothing_to_the_garbage_collector(stage: Stage) -> None:
    await stage.infer(1.0, model="alone")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for model in ("alone", "m"):
            for _ in range(3):
                await stage.infer(1.0, model=model)
        gc.collect()
        ours = {type(found) for found in gc.garbage if type(found).__module__.startswith("proxy.")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == set()


async def test_one_credential_does_not_travel_with_another(stage: Stage) -> None:
    first = await blocked(stage)
    infer = stage.channel.unary_unary(INFER)
    tasks = [
        begin(infer(asked(1.0), metadata=(("authorization", f"Bearer {name}"),)))
        for name in ("ann", "bob", "ann")
    ]
    await waiting(stage, 3)
    stage.model.is_open.set()
    await asyncio.gather(first, *tasks)
    sent = [
        (size, found.get("authorization"))
        for size, found in zip(stage.model.sizes, stage.model.metadata, strict=True)
    ]
    assert sorted(sent[1:]) == [(1, "Bearer bob"), (2, "Bearer ann")]


async def test_the_latest_deadline_of_the_members_is_sent_and_each_is_cut_off_at_its_own(
    stage: Stage,
) -> None:
    first = await blocked(stage)
    infer = stage.channel.unary_unary(INFER)
    patient = begin(infer(asked(2.0), timeout=60))
    await waiting(stage, 1)
    hasty = begin(infer(asked(1.0), timeout=1.0))
    await until(lambda: queued(stage) == 2 or hasty.done())
    with pytest.raises(aio.AioRpcError) as caught:
        await hasty
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    stage.model.is_open.set()
    await asyncio.gather(first, patient)
    left = stage.model.time_left[-1]
    assert left is not None
    assert 30 < left < 61


async def test_a_batch_is_given_up_when_every_member_has_left(stage: Stage) -> None:
    stage.model.is_open.clear()
    calls = [stage.channel.unary_unary(INFER)(asked(float(n))) for n in range(2)]
    tasks = [begin(call) for call in calls]
    await until(lambda: sum(stage.model.sizes) == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: stage.model.cancelled == len(stage.model.sizes))


async def test_a_large_message_is_merged_too(stage: Stage) -> None:
    values = [float(n) for n in range(60_000)]
    answer = await stage.infer(*values)
    assert values_of(answer.outputs[0], answer.raw_output_contents) == [2 * value for value in values]


async def test_a_compressed_message_goes_through_alone(stage: Stage) -> None:
    message = asked(*[1.0] * 1000)
    answer = await stage.channel.unary_unary(INFER)(message, compression=grpc.Compression.Gzip)
    assert values_of(*output_of(answer)) == [2.0] * 1000
    assert 'why="compressed"' in await metrics(stage)


async def test_a_call_with_two_messages_is_passed_through(stage: Stage) -> None:
    call = stage.channel.stream_unary(INFER)()
    await call.write(asked(1.0))
    await call.write(asked(2.0))
    await call.done_writing()
    assert values_of(*output_of(await call)) == [2.0]  # what grpcio's server makes of it
    assert 'why="streamed_body"' in await metrics(stage)
