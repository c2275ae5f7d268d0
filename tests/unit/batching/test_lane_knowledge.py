"""What callers wish, what is known and told, and what becomes of many lanes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.batching.lane import Batcher
from proxy.errors import Overloaded, Reset
from tests.support.batching import (
    ADAPTIVE,
    JSON_FIELDS,
    Stage,
    Subject,
    infer_call,
    policy,
    predict_call,
    turns,
)

if TYPE_CHECKING:
    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Call

WINDOW = policy(mode="window", items={"least": 25, "start": 25, "most": 25})


# ------------------------------------------------------------------------- wishes
async def test_a_caller_may_ask_to_travel_alone(stage: Stage) -> None:
    await stage.block()
    call = predict_call(1.5, headers=(*JSON_FIELDS, (b"Pillion-Batch", b"off")))
    stage.submit(call)
    await turns()
    assert stage.upstream.calls[1] is call
    assert stage.events.refusals == [("digits", "unwished")]


async def test_a_caller_may_wait_less_than_the_policy_says(stage: Stage) -> None:
    await stage.block()
    stage.submit(predict_call(1.5))
    stage.submit(predict_call(2.5, headers=(*JSON_FIELDS, (b"Pillion-Max-Wait", b"5ms"))))
    await turns()
    stage.clock.advance(0.004)
    await turns()
    assert stage.upstream.in_flight == 1
    stage.clock.advance(0.002)
    await turns()
    assert stage.upstream.in_flight == 2
    assert stage.events.batches[1][:3] == ("digits", 2, "window")
    assert stage.events.batches[1][3] == pytest.approx(0.005)


async def test_urgent_calls_leave_first(stage: Stage) -> None:
    await stage.block()
    small = policy(items={"least": 1, "start": 1, "most": 1})
    usual = [predict_call(k + 0.5) for k in range(3)]
    urgent = predict_call(9.5, headers=(*JSON_FIELDS, (b"Priority", b"u=0")))
    for call in (*usual, urgent):
        stage.submit(call, small)
    await turns()
    stage.upstream.release_all()
    await turns(40)
    assert stage.upstream.calls[1:] == [urgent, *usual]


# ------------------------------------------------------------------------- paths
async def test_what_is_known_of_a_path_is_known_whatever_the_query(stage: Stage) -> None:
    asked: list[bytes] = []

    async def inquire(call: Call) -> int | None:
        asked.append(call.target)
        return 2

    batcher = Batcher(stage.upstream, stage.clock, stage.events, inquire=inquire)
    stage.upstream.release_all()
    for number in range(3):
        target = b"/v1/models/digits:predict?n=%d" % number
        await batcher.submit(infer_call(target, b'{"instances":[1.5]}'), Subject(), ADAPTIVE)
    await turns()
    paths = batcher.snapshot()["paths"]
    assert isinstance(paths, list)
    assert [(path["target"], len(path["last"])) for path in paths] == [("/v1/models/digits:predict", 3)]
    assert asked == [b"/v1/models/digits:predict?n=0"]
    assert [call.target[-4:] for call in stage.upstream.calls] == [b"?n=0", b"?n=1", b"?n=2"]
    await batcher.close()


# ---------------------------------------------------------------------- admission
async def teach(stage: Stage, seconds: float, rules: BatchPolicy = ADAPTIVE) -> None:
    """Let thirty lone calls take that long each."""
    for k in range(34):
        task = stage.submit(predict_call(k + 0.5), rules)
        await turns()
        stage.clock.advance(seconds)
        stage.upstream.release()
        await task


async def test_a_call_that_would_be_late_is_turned_away_once_that_is_known(stage: Stage) -> None:
    await teach(stage, 1.0)
    soon = stage.clock.now() + 1.5
    await stage.block()
    tasks = [stage.submit(predict_call(k + 0.5), ADAPTIVE) for k in range(100)]
    await turns()
    in_time = stage.submit(predict_call(1.5, deadline=stage.clock.now() + 30))
    await turns()
    assert not in_time.done()
    late = stage.submit(predict_call(1.5, deadline=soon))
    with pytest.raises(Overloaded) as refusal:
        await late
    assert refusal.value.retry_after_s == 1
    assert not any(task.done() for task in tasks)


async def test_what_a_parallel_backend_can_do_in_time_is_not_turned_away(stage: Stage) -> None:
    eight = policy(inflight=8)
    await teach(stage, 1.0, eight)
    soon = stage.clock.now() + 1.5
    for _ in range(8):
        stage.submit(predict_call(0.5), eight)
        await turns()
    for _ in range(250):
        stage.submit(predict_call(1.5), eight)
    await turns()
    task = stage.submit(predict_call(1.5, deadline=soon), eight)
    await turns()
    assert not task.done()


async def test_nobody_is_turned_away_for_want_of_knowledge(stage: Stage) -> None:
    await stage.block()
    task = stage.submit(predict_call(1.5, deadline=stage.clock.now() + 0.001))
    await turns()
    assert not task.done()


# ---------------------------------------------------------------- what is known
async def test_the_limit_of_a_model_is_asked_for_once_and_kept(stage: Stage) -> None:
    asked: list[bytes] = []

    async def inquire(call: Call) -> int | None:
        asked.append(call.target)
        return 3

    stage.batcher = Batcher(stage.upstream, stage.clock, stage.events, inquire=inquire)
    stage.upstream.release_all()
    for _ in range(2):
        await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(6)])
    assert asked == [b"/v1/models/digits:predict"]
    assert [items for _, items, *_ in stage.events.batches][-2:] == [3, 3]


@pytest.mark.parametrize("answer", [0, None, Reset("gone")])
async def test_a_model_that_takes_no_batches_gets_none(stage: Stage, answer: int | Reset | None) -> None:
    async def inquire(_: Call) -> int | None:
        if isinstance(answer, Reset):
            raise answer
        return answer

    stage.batcher = Batcher(stage.upstream, stage.clock, stage.events, inquire=inquire)
    stage.upstream.release_all()
    await stage.submit(predict_call(0.5))
    await stage.submit(predict_call(0.5))
    assert stage.events.refusals == ([("digits", "not_batchable")] if answer == 0 else [])


async def test_limits_are_reported_for_each_model(stage: Stage) -> None:
    stage.upstream.release_all()
    await stage.submit(predict_call(0.5))
    stage.submit(predict_call(0.5), WINDOW, Subject(model="other"))
    await turns()
    assert list(stage.batcher.limits()) == [("digits", 1)]


async def test_the_snapshot_tells_what_goes_on(stage: Stage) -> None:
    blocker = await stage.block()
    stage.submit(predict_call(1.5))
    await turns()
    stage.clock.advance(0.020)
    snapshot = msgspec.json.decode(msgspec.json.encode(stage.batcher.snapshot()))
    assert (snapshot["in_flight"], snapshot["lanes"], snapshot["not_batched"]) == (1, 1, {})
    assert snapshot["slots"] == [{"limit": 1, "in_flight": 1, "waiting": 1, "is_learned": True}]
    stage.upstream.release()
    await blocker
    (path,) = msgspec.json.decode(msgspec.json.encode(stage.batcher.snapshot()))["paths"]
    assert (path["model"], path["target"], path["most_items"]) == ("digits", "/v1/models/digits:predict", 100)
    assert path["last"] == [
        {
            "age_s": 0.02,
            "items": 1,
            "members": 1,
            "trigger": "idle",
            "wait_ms": 0.0,
            "took_ms": 20.0,
            "status": 200,
        }
    ]


async def test_the_last_twenty_batches_are_remembered(stage: Stage) -> None:
    stage.upstream.release_all()
    for _ in range(25):
        await stage.submit(predict_call(0.5))
    (path,) = msgspec.json.decode(msgspec.json.encode(stage.batcher.snapshot()))["paths"]
    assert len(path["last"]) == 20


async def test_an_explanation_names_the_key_and_shows_no_secret(stage: Stage) -> None:
    secret = predict_call(1.5, headers=(*JSON_FIELDS, (b"Authorization", b"Bearer secret"), (b"Host", b"m")))
    found = stage.batcher.explain(secret, Subject(), ADAPTIVE)
    assert found["merged"] is True
    assert found["items"] == 1
    assert found["limits"] == {"items": 100, "max_wait_s": 0.05, "bytes": 8 << 20, "inflight": 1}
    key = found["key"]
    assert isinstance(key, dict)
    assert key["codec"] == "kserve_v1"
    assert key["headers"]["host"] == "m"
    assert key["headers"]["authorization"].startswith("blake2:")
    assert "secret" not in str(found)
    assert not stage.upstream.calls


async def test_an_explanation_knows_the_lane_and_the_wish(stage: Stage) -> None:
    await stage.block()
    stage.submit(predict_call(1.5))
    await turns()
    wishing = predict_call(2.5, headers=(*JSON_FIELDS, (b"Pillion-Max-Wait", b"5ms")))
    found = stage.batcher.explain(wishing, Subject(), ADAPTIVE)
    assert found["waiting"] == 1
    assert found["limits"]["max_wait_s"] == 0.005  # type: ignore[index]
    window = stage.batcher.explain(wishing, Subject(), WINDOW)
    assert window["limits"]["inflight"] is None  # type: ignore[index]


async def test_an_explanation_says_why_not(stage: Stage) -> None:
    call = infer_call(b"/p", b'{"instances":[]}')
    assert stage.batcher.explain(call, Subject(), ADAPTIVE) == {"merged": False, "why": "empty"}


# --------------------------------------------------------------------- many lanes
async def test_ten_thousand_keys_are_forgotten_when_nobody_waits(stage: Stage) -> None:
    stage.upstream.release_all()
    for number in range(2500):
        await stage.submit(predict_call(0.5, headers=((b"X-Key", b"%d" % number),)))
    assert stage.batcher.snapshot()["lanes"] <= 1024  # type: ignore[operator]


async def test_lanes_that_somebody_waits_in_are_kept(stage: Stage) -> None:
    await stage.block()
    tasks = [stage.submit(predict_call(0.5, headers=((b"X-Key", b"%d" % number),))) for number in range(1500)]
    await turns()
    assert stage.batcher.snapshot()["lanes"] >= 1500  # type: ignore[operator]
    stage.upstream.release_all()
    assert {(await task).status for task in tasks} == {200}


async def test_policies_of_one_upstream_share_their_slots_if_they_agree(stage: Stage) -> None:
    await stage.block()
    stage.submit(predict_call(1.5), policy(max_wait="1s"), Subject(model="other"))
    await turns()
    assert stage.upstream.in_flight == 1
    stage.submit(predict_call(1.5), policy(inflight=2), Subject(model="third"))
    await turns()
    assert stage.upstream.in_flight == 2


async def test_a_fixed_number_in_flight_is_obeyed(stage: Stage) -> None:
    fixed = policy(inflight=2)
    for k in range(4):
        stage.submit(predict_call(k + 0.5), fixed)
        await turns()
    assert stage.upstream.in_flight == 2
