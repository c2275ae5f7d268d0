"""Batches that fail: everybody gets an answer of its own, and the next batch is wiser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.batching.codecs.kserve_v1 import KServeV1
from proxy.batching.lane import Batcher
from proxy.errors import ProxyError, ReadTimeout, Reset, SplitMismatch
from proxy.exchange import Call, Reply, Stream
from tests.support.batching import (
    Stage,
    predict,
    predict_call,
    predictions,
    turns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.batching.codecs.base import Part, Prepared
    from proxy.exchange import Headers


# ---------------------------------------------------------------------- errors
async def test_a_failed_batch_is_sent_again_one_by_one_and_each_gets_its_own_answer(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        if b"-1.0" in call.body:
            return Reply(400, (), b"negative")
        return predict(call)

    stage.upstream.answer = answer
    tasks = [stage.submit(predict_call(value)) for value in (1.0, -1.0, 2.0)]
    await turns()
    stage.upstream.release_all()
    replies = [await task for task in tasks]
    assert [reply.status for reply in replies] == [200, 400, 200]
    assert replies[1].body == b"negative"
    assert predictions(replies[2]) == [4.0]
    assert stage.events.isolations == ["digits"]


async def test_an_answer_that_cannot_be_cut_is_asked_again_one_by_one(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        if len(stage.upstream.calls) == 1:
            reply.body = b'{"predictions":[1]}'
        return reply

    stage.upstream.answer = answer
    tasks = [stage.submit(predict_call(value)) for value in (1.0, 2.0)]
    await turns()
    stage.upstream.release_all()
    assert [predictions(await task) for task in tasks] == [[2.0], [4.0]]


async def test_a_refusal_that_concerns_all_is_given_to_all(stage: Stage) -> None:
    stage.upstream.answer = lambda _: Reply(
        401, ((b"WWW-Authenticate", b"Bearer"), (b"Set-Cookie", b"a")), b"no"
    )
    tasks = [stage.submit(predict_call(value)) for value in (1.0, 2.0)]
    await turns()
    stage.upstream.release_all()
    for task in tasks:
        reply = await task
        assert (reply.status, reply.body, reply.headers) == (401, b"no", ((b"WWW-Authenticate", b"Bearer"),))
    assert len(stage.upstream.calls) == 1


async def test_a_broken_connection_is_reported_to_each_member_as_its_own_error(stage: Stage) -> None:
    def answer(_: Call) -> Reply:
        raise Reset("gone")

    stage.upstream.answer = answer
    tasks = [stage.submit(predict_call(value)) for value in (1.0, 2.0)]
    await turns()
    stage.upstream.release_all()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["gone", "gone"]
    assert errors[0] is not errors[1]


# --------------------------------------------------------------- spoiled batches
def refuses(*values: float, status: int = 400) -> Callable[[Call], Reply]:
    """A model that refuses any call about one of `values`."""

    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        instances = msgspec.json.decode(call.body)["instances"]
        return Reply(status, (), b"refused") if set(values) & set(instances) else predict(call)

    return answer


async def test_one_culprit_among_many_costs_few_calls_and_is_quarantined(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = refuses(20.5)
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(64)])
    assert [reply.status for reply in replies] == [400 if k == 20 else 200 for k in range(64)]
    assert len(stage.upstream.calls) <= 14
    calls = len(stage.upstream.calls)
    again, innocent = predict_call(20.5), predict_call(0.5)
    replies = [await task for task in (stage.submit(again), stage.submit(innocent))]
    assert [reply.status for reply in replies] == [400, 200]
    assert len(stage.upstream.calls) == calls + 2
    assert ("digits", "quarantined") in stage.events.refusals


async def test_a_path_where_repeating_is_not_safe_is_not_repeated(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = refuses(1.5)
    calls = [predict_call(k + 0.5) for k in range(3)]
    for call in calls:
        call.idempotent = False
    replies = await asyncio.gather(*[stage.submit(call) for call in calls])
    assert [reply.status for reply in replies] == [400, 400, 400]
    assert len(stage.upstream.calls) == 1


async def test_an_answer_that_cannot_be_cut_nor_asked_again_is_a_bad_gateway(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = lambda _: Reply(200, (), b"{}")
    calls = [predict_call(k + 0.5) for k in range(2)]
    for call in calls:
        call.idempotent = False
    errors = await asyncio.gather(*[stage.submit(call) for call in calls], return_exceptions=True)
    assert [type(error) for error in errors] == [SplitMismatch, SplitMismatch]


async def test_answers_that_cannot_be_cut_suspend_the_lane_for_a_while(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = lambda _: Reply(200, (), b'{"predictions":[1]}')
    for _ in range(3):
        await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    assert stage.events.refusals == []
    await stage.submit(predict_call(0.5))
    assert stage.events.refusals == [("digits", "suspended")]
    stage.clock.advance(60)
    await stage.submit(predict_call(0.5))
    assert len(stage.events.refusals) == 1


async def test_a_model_that_is_loaded_anew_is_merged_again(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = lambda _: Reply(200, (), b'{"predictions":[1]}')
    for _ in range(3):
        await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    stage.batcher.forget("another")
    await stage.submit(predict_call(0.5))
    stage.batcher.forget("digits")
    await stage.submit(predict_call(0.5))
    assert stage.events.refusals == [("digits", "suspended")]


async def test_an_encoded_answer_is_asked_again_one_by_one(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        if len(stage.upstream.calls) == 1:
            reply.headers += ((b"Content-Encoding", b"gzip"),)
        return reply

    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    assert [predictions(reply) for reply in replies] == [[1.0], [3.0]]


async def test_a_sick_backend_is_not_asked_everything_twice(stage: Stage) -> None:
    stage.upstream.release_all()
    stage.upstream.answer = lambda _: Reply(500, (), b"boom")
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(64)])
    assert {reply.status for reply in replies} == {500}
    first = len(stage.upstream.calls)
    assert first == 4
    await asyncio.gather(*[stage.submit(predict_call(k + 100.5)) for k in range(64)])
    assert len(stage.upstream.calls) == first + 1
    stage.clock.advance(6)
    await asyncio.gather(*[stage.submit(predict_call(k + 200.5)) for k in range(64)])
    assert len(stage.upstream.calls) == first + 5


@pytest.mark.parametrize(
    ("status", "most", "sizes"), [(413, 8, [16, 8, 8]), (429, 2, [16, 2, 2, 2, 2, 2, 2, 2, 2])]
)
async def test_a_batch_that_is_too_much_makes_the_next_ones_smaller(
    stage: Stage, status: int, most: int, sizes: list[int]
) -> None:
    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        is_too_much = len(msgspec.json.decode(call.body)["instances"]) > most
        return Reply(status, (), b"too much") if is_too_much else predict(call)

    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(16)])
    assert {reply.status for reply in replies} == {200}
    await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(16)])
    assert [items for _, items, *_ in stage.events.batches] == sizes


async def test_two_identities_never_share_a_batch_and_keep_theirs(stage: Stage) -> None:
    stage.upstream.release_all()
    calls = [predict_call(k + 0.5) for k in range(4)]
    for call, identity in zip(calls, (b"one", b"two", b"one", b"two"), strict=True):
        call.identity = identity
    await asyncio.gather(*[stage.submit(call) for call in calls])
    assert sorted((call.identity, call.body) for call in stage.upstream.calls) == [
        (b"one", b'{"instances":[0.5,2.5]}'),
        (b"two", b'{"instances":[1.5,3.5]}'),
    ]


async def test_members_that_left_are_not_sent_again(stage: Stage) -> None:
    stage.upstream.answer = refuses(1.5)
    tasks = [stage.submit(predict_call(k + 0.5)) for k in range(4)]
    await turns()
    for task in tasks[:2]:
        task.cancel()
    await turns()
    stage.upstream.release_all()
    assert [(await task).status for task in tasks[2:]] == [200, 200]
    sent = [call.body for call in stage.upstream.calls[1:]]
    assert sent == [b'{"instances":[2.5,3.5]}']


async def test_a_backend_that_goes_away_while_a_batch_is_taken_apart_fails_its_part(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        if b"0.5" in call.body and b"3.5" not in call.body:
            raise ReadTimeout("silent")
        return Reply(400, (), b"no") if b"0.5" in call.body else predict(call)

    stage.upstream.release_all()
    stage.upstream.answer = answer
    found = await asyncio.gather(
        *[stage.submit(predict_call(k + 0.5)) for k in range(4)], return_exceptions=True
    )
    assert [type(one) for one in found] == [ReadTimeout, ReadTimeout, Reply, Reply]


async def test_a_connection_that_breaks_for_one_is_that_ones_error(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        if call.body == b'{"instances":[0.5]}':
            raise Reset("gone")
        assert isinstance(call.body, bytes)
        return Reply(400, (), b"no") if b"0.5" in call.body else predict(call)

    stage.upstream.release_all()
    stage.upstream.answer = answer
    found = await asyncio.gather(
        *[stage.submit(predict_call(k + 0.5)) for k in range(4)], return_exceptions=True
    )
    assert [type(one) for one in found] == [Reset, Reply, Reply, Reply]


async def test_when_an_answer_is_too_large_to_collect_each_is_asked_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_: Call) -> Reply:
        body = Stream(None)
        body.feed(b"x" * 100)
        body.end()
        return Reply(200, (), body)

    monkeypatch.setattr("proxy.batching.carrier._MOST_ANSWER_BYTES", 99)
    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    assert [type(reply.body) for reply in replies] == [Stream, Stream]
    assert len(stage.upstream.calls) == 3


async def test_cookies_end_the_sharing(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        reply.headers += ((b"Set-Cookie", b"session=1"),)
        return reply

    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    assert all(reply.header(b"set-cookie") is None for reply in replies)
    alone = await stage.submit(predict_call(0.5))
    assert alone.header(b"set-cookie") == b"session=1"
    assert stage.events.refusals == [("digits", "suspended")]


async def test_a_streamed_answer_to_a_batch_is_collected(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        body = Stream(None)
        assert isinstance(reply.body, bytes)
        for byte in reply.body:
            body.feed(bytes((byte,)))
        body.end()
        reply.body = body
        return reply

    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(3)])
    assert [predictions(reply) for reply in replies] == [[1.0], [3.0], [5.0]]


async def test_an_answer_that_breaks_off_is_asked_again_one_by_one(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        if len(stage.upstream.calls) > 1:
            return predict(call)
        body = Stream(None)
        body.feed(b'{"predictions":[')
        body.fail(Reset("halfway"))
        return Reply(200, (), body)

    stage.upstream.release_all()
    stage.upstream.answer = answer
    replies = await asyncio.gather(*[stage.submit(predict_call(k + 0.5)) for k in range(2)])
    assert [predictions(reply) for reply in replies] == [[1.0], [3.0]]


# --------------------------------------------------------------------------- bugs
async def test_a_bug_in_a_codec_fails_its_batch_and_nothing_else(stage: Stage) -> None:
    usual = KServeV1()

    class Broken:
        name = usual.name

        def prepare(self, body: bytes, headers: Headers) -> Prepared:
            return usual.prepare(body, headers)

        def merge(self, members: Sequence[Prepared]) -> Part:
            raise ZeroDivisionError

        def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
            return usual.split(answer, members)

    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    stage.batcher = Batcher(stage.upstream, stage.clock, stage.events, codecs={"kserve_v1": Broken()})
    stage.upstream.release_all()
    errors = await asyncio.gather(
        *[stage.submit(predict_call(k + 0.5)) for k in range(2)], return_exceptions=True
    )
    assert [type(error) for error in errors] == [ProxyError, ProxyError]
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    assert predictions(await stage.submit(predict_call(1.5))) == [3.0]
