"""What callers get: kept answers, each other's, or the backend's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.caching.seeking import _MOST_PASSING
from proxy.exchange import Call, Reply
from tests.support.batching import JSON_FIELDS, predict, predict_call
from tests.support.cache_bench import OTHER, Bench, saying, uploaded
from tests.support.caching import INFER, PREDICT, answer_tensors, infer_call, policy, status_of

if TYPE_CHECKING:
    from proxy.exchange import Headers


# ------------------------------------------------------------------ hits
async def test_what_was_answered_is_not_asked_again() -> None:
    bench = Bench()
    first = await bench.ask(predict_call(1.5))
    bench.clock.advance(7.5)
    second = await bench.ask(predict_call(1.5))
    assert (first.body, first.source) == (second.body, "upstream")
    assert second.source == "cache"
    assert status_of(first) == "fwd=uri-miss; stored"
    assert status_of(second) == "hit; ttl=592"
    assert second.header(b"age") == b"7"
    assert len(bench.upstream.calls) == 1
    assert bench.cache.results == {"miss": 1, "hit": 1}


def repeated(*instances: object, headers: Headers = JSON_FIELDS) -> Call:
    """A call of a connection that repeats its head."""
    call = predict_call(*instances, headers=headers)
    call.head = headers
    return call


async def test_a_repetition_is_answered_without_being_read_again() -> None:
    bench = Bench()
    assert bench.cache.kept(repeated(1.5), PREDICT, bench.rule) is None
    first = await bench.ask(repeated(1.5))
    reply = bench.cache.kept(repeated(1.5), PREDICT, bench.rule)
    assert reply is not None
    assert (reply.body, status_of(reply)) == (first.body, "hit; ttl=600")
    assert bench.cache.results == {"miss": 1, "hit": 1}
    assert bench.cache.kept(repeated(2.5), PREDICT, bench.rule) is None
    assert bench.cache.kept(predict_call(1.5), PREDICT, bench.rule) is None
    bench.clock.advance(600.0)
    assert bench.cache.kept(repeated(1.5), PREDICT, bench.rule) is None


async def test_a_repetition_of_several_items_is_read_again() -> None:
    bench = Bench()
    await bench.ask(repeated(1.5, 2.5))
    assert bench.cache.kept(repeated(1.5, 2.5), PREDICT, bench.rule) is None


async def test_a_repetition_is_of_the_same_generation() -> None:
    bench = Bench()
    await bench.ask(repeated(1.5))
    await bench.cache.purge("model", "digits")
    assert bench.cache.kept(repeated(1.5), PREDICT, bench.rule) is None


async def test_a_head_with_wishes_is_read_every_time() -> None:
    bench = Bench()
    picky = (*JSON_FIELDS, (b"Cache-Control", b"no-cache"))
    await bench.ask(repeated(1.5, headers=picky))
    assert bench.cache.kept(repeated(1.5, headers=picky), PREDICT, bench.rule) is None


async def test_a_repeated_upload_is_gathered_first() -> None:
    bench = Bench()
    call = uploaded(b'{"instances":[1.5]}')
    call.head = JSON_FIELDS
    assert bench.cache.kept(call, PREDICT, bench.rule) is None


async def test_a_grpc_call_is_passed_on() -> None:
    bench = Bench()
    for _ in range(2):
        call = predict_call(1.5)
        call.is_grpc = True
        assert not status_of(await bench.ask(call))
    assert len(bench.upstream.calls) == 2


async def test_an_answer_is_asked_for_anew_when_its_time_is_over() -> None:
    bench = Bench(rule=policy(ttl=5.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(5.0)
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_each_caller_gets_its_own_id() -> None:
    bench = Bench(answer_tensors)
    ids = []
    for ident in ("a", "b", ""):
        body = (await bench.ask(infer_call([1.0, 2.0], ident=ident), INFER)).body
        assert isinstance(body, bytes)
        answer = msgspec.json.decode(body)
        assert answer["outputs"][0]["data"] == [3.0]
        ids.append(answer.get("id"))
    assert ids == ["a", "b", None]
    assert len(bench.upstream.calls) == 1


async def test_fields_that_speak_of_one_caller_are_not_given_to_another() -> None:
    bench = Bench(
        saying((b"X-Request-Id", b"first"), (b"X-Quota-Left", b"3"), (b"Age", b"2"), (b"Server", b"s"))
    )
    first = await bench.ask(predict_call(1.5))
    second = await bench.ask(predict_call(1.5))
    assert first.header(b"x-request-id") == b"first"
    assert [name for name, _ in (*second.headers, *second.added)] == [
        b"Content-Type",
        b"Server",
        b"Age",
        b"Cache-Status",
    ]
    assert second.header(b"age") == b"2"


async def test_off_means_untouched() -> None:
    bench = Bench(rule=policy(mode="off"))
    for _ in range(2):
        reply = await bench.ask(predict_call(1.5))
        assert reply.header(b"cache-status") is None
    assert len(bench.upstream.calls) == 2
    assert bench.cache.results == {}


async def test_what_is_no_question_is_passed_on() -> None:
    bench = Bench()
    call = predict_call(1.5)
    assert await bench.ask(call, OTHER)
    assert bench.upstream.calls == [call]


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (((b"Cache-Control", b"no-store"),), "no_store"),
        (((b"Range", b"bytes=0-1"),), "conditional"),
    ],
)
async def test_what_must_not_be_looked_up_is_passed_on_and_says_why(headers: Headers, detail: str) -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    reply = await bench.ask(predict_call(1.5, headers=(*JSON_FIELDS, *headers)))
    assert status_of(reply) == f"fwd=bypass; detail={detail}"
    assert bench.cache.results == {"miss": 1, "bypass": 1}


async def test_the_backend_is_asked_for_no_content_coding() -> None:
    bench = Bench()
    await bench.ask(
        predict_call(1.5, headers=(*JSON_FIELDS, (b"Accept-Encoding", b"gzip"), (b"User-Agent", b"u")))
    )
    assert bench.upstream.calls[0].headers == (*JSON_FIELDS, (b"User-Agent", b"u"))


async def test_spans_are_told_to_the_call_that_caused_them() -> None:
    def slow(call: Call) -> Reply:
        call.queue_s, call.pool_s, call.upstream_s, call.batch = 1.0, 2.0, 3.0, b"size=1"
        return predict(call)

    call = predict_call(1.5)
    await Bench(slow).ask(call)
    assert (call.queue_s, call.pool_s, call.upstream_s, call.batch) == (1.0, 2.0, 3.0, b"size=1")


# ------------------------------------------------------------------ what is not kept
@pytest.mark.parametrize("status", [404, 429, 500, 503])
async def test_failures_are_not_kept(status: int) -> None:
    bench = Bench(saying(status=status))
    for _ in range(2):
        reply = await bench.ask(predict_call(1.5))
        assert (reply.status, status_of(reply)) == (status, "fwd=uri-miss; detail=status")
    assert len(bench.upstream.calls) == 2


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((b"Cache-Control", b"no-store"), "response_directive"),
        ((b"Set-Cookie", b"a=b"), "set_cookie"),
        ((b"Inference-Header-Content-Length", b"3"), "binary_tensors"),
    ],
)
async def test_what_may_not_be_kept_is_passed_straight_on_for_a_while(
    header: tuple[bytes, bytes], why: str
) -> None:
    bench = Bench(saying(header))
    assert status_of(await bench.ask(predict_call(1.5))) == f"fwd=uri-miss; detail={why}"
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=bypass; detail=not_kept"
    bench.clock.advance(5.0)
    assert status_of(await bench.ask(predict_call(1.5))) == f"fwd=uri-miss; detail={why}"
    assert bench.cache.results == {"miss": 2, "bypass": 1}


async def test_a_large_answer_is_not_kept() -> None:
    bench = Bench(rule=policy(entry=100))
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; detail=too_large"


async def test_an_answer_without_the_form_of_its_protocol_is_not_kept() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b"[]"))
    assert status_of(await bench.ask(infer_call([1.5]), INFER)) == "fwd=uri-miss; detail=form"


async def test_marks_of_what_is_not_kept_do_not_pile_up() -> None:
    bench = Bench(saying((b"Cache-Control", b"no-store")))
    for number in range(_MOST_PASSING + 2):
        await bench.ask(predict_call(number + 0.5))
    assert len(bench.cache.seeker._passing) == _MOST_PASSING
