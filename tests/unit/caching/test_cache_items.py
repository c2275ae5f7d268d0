"""Requests of several items: what is known is kept, what is not is asked for."""

from __future__ import annotations

import msgspec
import pytest

from proxy.exchange import Reply
from tests.support.batching import JSON_FIELDS, predict, predict_call
from tests.support.cache_bench import Bench, numbers
from tests.support.caching import INFER, answer_tensors, infer_call, status_of


# ------------------------------------------------------------------ items
async def test_only_unknown_items_are_asked() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5, 2.5))
    partly = await bench.ask(predict_call(2.5, 3.5, 1.5, 4.5))
    assert numbers(partly) == [5.0, 7.0, 3.0, 9.0]
    assert status_of(partly) == "fwd=partial; stored; ttl=600"
    known = await bench.ask(predict_call(4.5, 1.5))
    assert (numbers(known), status_of(known)) == ([9.0, 3.0], "hit; ttl=600")
    assert bench.asked == [[1.5, 2.5], [3.5, 4.5]]
    assert bench.cache.results == {"miss": 1, "partial": 1, "hit": 1}


@pytest.mark.parametrize("instances", [(1.5,), (1.5, 2.5)], ids=["alone", "several"])
async def test_who_asks_is_told_to_the_backend_side(instances: tuple[float, ...]) -> None:
    """There, calls of two identities never share a batch."""
    bench = Bench()
    call = predict_call(*instances)
    call.identity = b"key:alice"
    await bench.ask(call)
    assert [sent.identity for sent in bench.upstream.calls] == [b"key:alice"]


async def test_an_item_that_occurs_twice_is_asked_once() -> None:
    bench = Bench()
    assert numbers(await bench.ask(predict_call(1.5, 1.5))) == [3.0, 3.0]
    assert bench.asked == [[1.5]]


async def test_tensors_are_put_together_with_the_callers_id() -> None:
    bench = Bench(answer_tensors)
    await bench.ask(infer_call([1.0, 2.0], ident="first"), INFER)
    reply = await bench.ask(infer_call([3.0, 4.0], [1.0, 2.0], ident="second"), INFER)
    assert isinstance(reply.body, bytes)
    answer = msgspec.json.decode(reply.body)
    assert (answer["id"], answer["outputs"][0]["shape"]) == ("second", [2, 1])
    assert answer["outputs"][0]["data"] == [7.0, 3.0]


async def test_the_oldest_item_dates_the_answer() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.clock.advance(100.0)
    await bench.ask(predict_call(2.5))
    reply = await bench.ask(predict_call(1.5, 2.5))
    assert (reply.header(b"age"), status_of(reply)) == (b"100", "hit; ttl=500")


async def test_items_that_would_change_their_type_alone_are_asked_together() -> None:
    bench = Bench()
    await bench.ask(predict_call(2.5, 3))
    reply = await bench.ask(predict_call(2.5, 4))
    assert numbers(reply) == [5.0, 8]
    assert bench.asked == [[2.5, 3], [2.5, 4]]
    assert status_of(reply) == "fwd=uri-miss; stored"


async def test_items_that_no_codec_would_understand_alone_are_asked_together() -> None:
    bench = Bench()
    await bench.ask(predict_call(2.5))
    await bench.ask(predict_call(2.5, 10**18))
    assert bench.asked == [[2.5], [2.5, 10**18]]


async def test_an_answer_that_cannot_be_cut_is_passed_on_whole() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b'{"predictions":[1.0]}'))
    reply = await bench.ask(predict_call(1.5, 2.5))
    assert status_of(reply) == "fwd=uri-miss; detail=split"


async def test_when_part_of_a_request_cannot_be_kept_the_whole_is_sent() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = lambda _: Reply(200, JSON_FIELDS, b"[1.0]")
    reply = await bench.ask(predict_call(1.5, 2.5))
    assert (reply.body, status_of(reply)) == (b"[1.0]", "fwd=miss; detail=items")
    assert bench.asked == [[1.5], [2.5], [1.5, 2.5]]


async def test_a_failure_for_some_items_is_the_answer() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = lambda _: Reply(400, JSON_FIELDS, b"bad row")
    reply = await bench.ask(predict_call(1.5, 2.5))
    assert (reply.status, len(bench.upstream.calls)) == (400, 2)


async def test_answers_that_do_not_fit_together_are_asked_for_together() -> None:
    bench = Bench(
        lambda call: Reply(200, JSON_FIELDS, b'{"predictions":[1],"at":%d}' % len(bench.upstream.calls))
    )
    await bench.ask(predict_call(1.5))
    await bench.ask(predict_call(2.5))
    bench.upstream.answer = predict
    reply = await bench.ask(predict_call(1.5, 2.5))
    assert (numbers(reply), status_of(reply)) == ([3.0, 5.0], "fwd=miss; detail=join; stored")
    assert status_of(await bench.ask(predict_call(1.5, 2.5))) == "hit; ttl=600"
