"""The batcher as its callers see it, on a clock that stands still and a backend that waits."""

from __future__ import annotations

import asyncio
import gc

import msgspec
import pytest

from proxy.batching.tickets import Member
from proxy.errors import DeadlineExceeded, Draining, Reset
from proxy.exchange import Call, Reply, Stream
from tests.support.batching import (
    JSON_FIELDS,
    Stage,
    Subject,
    policy,
    predict_call,
    predictions,
    turns,
)

WINDOW = policy(mode="window", items={"least": 25, "start": 25, "most": 25})


async def test_a_lone_call_leaves_at_once_and_byte_for_byte(stage: Stage) -> None:
    call = predict_call(1.5)
    task = stage.submit(call)
    await turns()
    assert stage.upstream.calls == [call]
    stage.upstream.release()
    assert predictions(await task) == [3.0]
    assert call.batch == b"size=1; trigger=idle"
    assert stage.events.batches == [("digits", 1, "idle", 0.0)]


async def test_calls_that_came_while_the_backend_was_busy_leave_together_in_order(stage: Stage) -> None:
    await stage.block()
    calls = [predict_call(float(k), float(-k)) if k % 2 else predict_call(k + 0.25) for k in range(1, 8)]
    tasks = [stage.submit(call) for call in calls]
    await turns()
    assert len(stage.upstream.calls) == 1
    stage.clock.advance(0.010)
    stage.upstream.release()
    await turns()
    assert len(stage.upstream.calls) == 2
    stage.upstream.release()
    replies = [predictions(await task) for task in tasks]
    assert replies == [[2.0, -2.0], [4.5], [6.0, -6.0], [8.5], [10.0, -10.0], [12.5], [14.0, -14.0]]
    assert calls[0].batch == b"size=11; trigger=slot_free"
    assert calls[0].queue_s == pytest.approx(0.010)
    assert stage.events.batches[1][:3] == ("digits", 11, "slot_free")


async def test_calls_of_one_turn_of_the_loop_leave_together(stage: Stage) -> None:
    tasks = [stage.submit(predict_call(float(k))) for k in range(3)]
    await turns()
    assert stage.events.batches == [("digits", 3, "idle", 0.0)]
    stage.upstream.release()
    assert [predictions(await task) for task in tasks] == [[0.0], [2.0], [4.0]]


async def test_a_merged_call_carries_what_all_share_and_nothing_else(stage: Stage) -> None:
    await stage.block()
    for k in range(2):
        own = ((b"X-Request-Id", b"%d" % k), (b"User-Agent", b"a%d" % k), (b"Accept-Encoding", b"gzip"))
        shared = ((b"Host", b"model"), (b"Authorization", b"Bearer t"), (b"X-Tenant", b"blue"))
        stage.submit(predict_call(float(k), headers=JSON_FIELDS + own + shared))
    await turns()
    stage.upstream.release()
    await turns()
    merged = stage.upstream.calls[1]
    assert dict(merged.headers) == {
        b"accept-encoding": b"identity",
        b"authorization": b"Bearer t",
        b"content-type": b"application/json",
        b"host": b"model",
        b"x-tenant": b"blue",
    }
    assert (merged.method, merged.target) == (b"POST", b"/v1/models/digits:predict")


@pytest.mark.parametrize(
    "other",
    [
        predict_call(1.5, headers=(*JSON_FIELDS, (b"Authorization", b"other"))),
        predict_call(1.5, headers=(*JSON_FIELDS, (b"X-Api-Key", b"other"))),
        predict_call([1.5]),
        predict_call(1),
        Call(b"POST", b"/v1/models/other:predict", JSON_FIELDS, b'{"instances":[1.5]}'),
        Call(b"POST", b"/v1/models/digits:predict?v=2", JSON_FIELDS, b'{"instances":[1.5]}'),
        Call(b"POST", b"/v1/models/digits:predict", JSON_FIELDS, b'{"instances":[1.5],"signature_name":"s"}'),
    ],
    ids=["credentials", "unknown field", "shape", "kind", "path", "query", "parameters"],
)
async def test_calls_that_differ_never_share_a_batch(stage: Stage, other: Call) -> None:
    await stage.block()
    same = predict_call(1.5)
    for call in (same, other):
        stage.submit(call)
    await turns()
    stage.upstream.release()
    await turns()
    stage.upstream.release()
    await turns()
    assert stage.upstream.calls[1:] == [same, other]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (Call(b"POST", b"/p", (), b'{"instances":[NaN]}'), "not_json"),
        (Call(b"POST", b"/p", (), b'{"instances":[]}'), "empty"),
        (Call(b"POST", b"/p", ((b"Content-Encoding", b"gzip"),), b'{"instances":[1]}'), "encoded_body"),
        (Call(b"POST", b"/p", (), Stream(None)), "streamed_body"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_merged_is_forwarded_as_it_came(stage: Stage, call: Call, why: str) -> None:
    blocker = await stage.block()
    stage.upstream.answer = lambda _: Reply(418, ())
    task = stage.submit(call)
    await turns()
    assert stage.upstream.calls[1] is call
    stage.upstream.release(1)
    assert (await task).status == 418
    assert stage.events.refusals == [("digits", why)]
    assert not blocker.done()


async def test_mode_off_and_a_missing_codec_forward_alone(stage: Stage) -> None:
    stage.upstream.release_all()
    call = predict_call(1.5)
    await stage.submit(call, policy(mode="off"))
    await stage.submit(call, subject=Subject(codec=None))
    assert [why for _, why in stage.events.refusals] == ["off", "no_codec"]


async def test_each_caller_gets_its_own_id_back(stage: Stage) -> None:
    def infer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        request = msgspec.json.decode(call.body)
        rows = request["inputs"][0]["shape"][0]
        output = {"name": "y", "shape": [rows], "datatype": "FP32", "data": request["inputs"][0]["data"]}
        return Reply(200, JSON_FIELDS, msgspec.json.encode({"model_name": "m", "outputs": [output]}))

    stage.upstream.answer = infer
    bodies = [
        b'{"id":"%d","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[%d]}]}' % (k, k)
        for k in range(3)
    ]
    calls = [Call(b"POST", b"/v2/models/m/infer", JSON_FIELDS, body) for body in bodies]
    tasks = [stage.submit(call, subject=Subject(codec="open_inference")) for call in calls]
    await turns()
    stage.upstream.release_all()
    for k, task in enumerate(tasks):
        reply = await task
        assert isinstance(reply.body, bytes)
        answer = msgspec.json.decode(reply.body)
        assert (answer["id"], answer["outputs"][0]["data"]) == (str(k), [k])
    assert len(stage.upstream.calls) == 1


# ------------------------------------------------------------------------ time
async def test_a_window_lasts_as_long_as_configured(stage: Stage) -> None:
    stage.submit(predict_call(1.5), WINDOW)
    await turns()
    stage.clock.advance(0.0499)
    await turns()
    assert not stage.upstream.calls
    stage.clock.advance(0.0002)
    await turns()
    assert len(stage.upstream.calls) == 1
    assert stage.events.batches[0][2] == "window"


async def test_a_full_window_does_not_wait(stage: Stage) -> None:
    for k in range(25):
        stage.submit(predict_call(float(k)), WINDOW)
    await turns()
    assert stage.events.batches == [("digits", 25, "full", 0.0)]


async def test_a_stuck_batch_holds_nobody_longer_than_max_wait(stage: Stage) -> None:
    await stage.block()
    stage.submit(predict_call(1.5))
    await turns()
    stage.clock.advance(0.049)
    await turns()
    assert stage.upstream.in_flight == 1
    stage.clock.advance(0.002)
    await turns()
    assert stage.upstream.in_flight == 2
    assert stage.events.batches[1][2] == "window"


async def test_a_deadline_ends_the_wait_in_a_lane_and_in_a_batch(stage: Stage) -> None:
    in_batch = stage.submit(predict_call(0.5, deadline=stage.clock.now() + 0.030))
    await turns()
    in_lane = stage.submit(predict_call(1.5, deadline=stage.clock.now() + 0.020))
    await turns()
    stage.clock.advance(0.020)
    await turns()
    with pytest.raises(DeadlineExceeded):
        await in_lane
    assert not in_batch.done()
    stage.clock.advance(0.010)
    with pytest.raises(DeadlineExceeded):
        await in_batch
    await turns()
    assert len(stage.upstream.cancelled) == 1


async def test_a_call_that_expired_before_its_timer_rang_is_not_sent(stage: Stage) -> None:
    await stage.block()
    late = stage.submit(predict_call(1.5, deadline=stage.clock.now() + 1))
    await turns()
    stage.clock.jump(2)
    stage.upstream.release()
    with pytest.raises(DeadlineExceeded):
        await late
    assert len(stage.upstream.calls) == 1


async def test_no_timer_is_left_to_ring_for_nothing_forever(stage: Stage) -> None:
    stage.upstream.release_all()
    await stage.submit(predict_call(1.5, deadline=stage.clock.now() + 30))
    stage.clock.advance(31)
    assert not stage.clock.pending


# ----------------------------------------------------------------------- leaving
async def test_a_caller_that_leaves_the_lane_is_not_sent(stage: Stage) -> None:
    await stage.block()
    stay, leaver = stage.submit(predict_call(1.5)), stage.submit(predict_call(2.5))
    await turns()
    leaver.cancel()
    stage.upstream.release()
    await turns()
    stage.upstream.release()
    assert predictions(await stay) == [3.0]
    assert stage.events.batches[1][1] == 1


async def test_a_caller_that_leaves_a_batch_disturbs_nobody(stage: Stage) -> None:
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(3)]
    await turns()
    tasks[1].cancel()
    await turns()
    assert not stage.upstream.cancelled
    stage.upstream.release()
    assert predictions(await tasks[0]) == [1.0]
    assert predictions(await tasks[2]) == [5.0]


async def test_the_upstream_call_ends_with_the_last_caller(stage: Stage) -> None:
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(3)]
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    assert len(stage.upstream.cancelled) == 1
    following = stage.submit(predict_call(1.5))
    await turns()
    stage.upstream.release()
    assert predictions(await following) == [3.0]


async def test_an_answer_that_nobody_took_frees_its_stream(stage: Stage) -> None:
    body = Stream(None)
    stage.upstream.answer = lambda _: Reply(200, (), body)
    task = stage.submit(predict_call(1.5))
    await turns()
    stage.upstream.release()
    while not task.done():
        await asyncio.sleep(0)
        task.cancel()
    closed: list[bool] = []
    body.on_close(lambda: closed.append(True))
    assert closed


async def test_an_error_that_nobody_waits_for_is_nobodys(stage: Stage) -> None:
    def answer(_: Call) -> Reply:
        raise Reset("gone")

    stage.upstream.answer = answer
    task = stage.submit(predict_call(1.5))
    await turns()
    stage.upstream.release()
    while not task.done():
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


# -------------------------------------------------------------------------- ends
async def test_drain_sends_what_waits_and_waits_for_the_answers(stage: Stage) -> None:
    waiting = [stage.submit(predict_call(k + 0.5), WINDOW) for k in range(3)]
    await turns()
    drain = asyncio.get_running_loop().create_task(stage.batcher.drain())
    await turns()
    assert stage.events.batches == [("digits", 3, "drain", 0.0)]
    assert not drain.done()
    stage.upstream.release()
    await drain
    assert [predictions(await task) for task in waiting] == [[1.0], [3.0], [5.0]]


async def test_a_call_during_a_drain_does_not_wait_for_company(stage: Stage) -> None:
    stage.upstream.release_all()
    await stage.batcher.drain()
    assert predictions(await stage.submit(predict_call(1.5), WINDOW)) == [3.0]


async def test_close_gives_up_on_everybody(stage: Stage) -> None:
    blocker = await stage.block()
    waiting = stage.submit(predict_call(1.5))
    await turns()
    await stage.batcher.close()
    for task in (blocker, waiting):
        with pytest.raises(Draining):
            await task
    assert len(stage.upstream.cancelled) == 1
    assert not stage.clock.pending


async def test_after_the_end_nobody_is_let_in(stage: Stage) -> None:
    await stage.batcher.close()
    with pytest.raises(Draining):
        await stage.submit(predict_call(1.5))


async def test_waiting_counts_the_calls_in_lanes(stage: Stage) -> None:
    await stage.block()
    leaver = stage.submit(predict_call(1.5))
    stage.submit(predict_call(2.5))
    await turns()
    leaver.cancel()
    await turns()
    assert list(stage.batcher.waiting()) == [("digits", 1)]


async def test_what_was_answered_is_freed_without_the_collector(stage: Stage) -> None:
    gc.collect()
    gc.disable()
    earlier = {id(thing) for thing in gc.get_objects() if isinstance(thing, Member)}
    try:
        await stage.block()
        tasks = [stage.submit(predict_call(float(k))) for k in range(4)]
        await turns()
        stage.upstream.release()
        await turns()
        stage.upstream.release()
        await asyncio.wait(tasks)
        del tasks
        await turns()
        assert not [t for t in gc.get_objects() if isinstance(t, Member) and id(t) not in earlier]
    finally:
        gc.enable()
