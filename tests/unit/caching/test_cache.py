"""What callers get: kept answers, each other's, or the backend's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.caching.seeking import _MOST_PASSING
from proxy.errors import (
    ConnectFailed,
    DeadlineExceeded,
    Draining,
    ProxyError,
    ReadTimeout,
    Reset,
)
from proxy.exchange import Call, Reply, Stream
from proxy.routing.table import Match, Route
from proxy.timing import Deadline
from tests.support.batching import JSON_FIELDS, HeldUpstream, predict, predict_call, turns
from tests.support.caching import (
    INFER,
    METADATA,
    PREDICT,
    a_cache,
    answer_tensors,
    infer_call,
    policy,
    status_of,
)
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.caching.policy import CachePolicy
    from proxy.exchange import Headers

OTHER = Match(Route("other", "model", "generic", "other", ()))
CONTROL = Match(Route("load", "model", "open-inference", "control", ()), "digits")


class Bench:
    """A cache before a backend, with everything within reach."""

    def __init__(
        self,
        answer: Callable[[Call], Reply] = predict,
        rule: CachePolicy | None = None,
        *,
        is_held: bool = False,
        **settings: object,
    ) -> None:
        self.clock = FakeClock()
        self.upstream = HeldUpstream(answer, is_held=is_held)
        self.cache = a_cache(self.clock, **settings)
        self.rule = rule or policy()

    async def ask(self, call: Call, match: Match = PREDICT) -> Reply:
        return await self.cache.serve(call, match, self.rule, self.upstream.exchange)

    @property
    def asked(self) -> list[object]:
        """What reached the backend: the instances of each call."""
        return [msgspec.json.decode(call.body)["instances"] for call in self.upstream.calls]  # type: ignore[arg-type]


def numbers(reply: Reply) -> object:
    assert isinstance(reply.body, bytes)
    return msgspec.json.decode(reply.body)["predictions"]


def saying(*headers: tuple[bytes, bytes], status: int = 200) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        return Reply(status, (*reply.headers, *headers), reply.body, reason=b"OK")

    return answer


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


def streaming(kind: bytes = b"application/json", length: int | None = None) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        body = Stream(None, length)
        body.feed(b'{"predictions":')
        body.feed(b"[3.0]}")
        body.end()
        return Reply(200, ((b"Content-Type", kind),), body)

    return answer


@pytest.mark.parametrize("answer", [streaming(), streaming(b"text/plain", 21)])
async def test_a_document_in_pieces_is_kept(answer: Callable[[Call], Reply]) -> None:
    bench = Bench(answer)
    await bench.ask(predict_call(1.5))
    reply = await bench.ask(predict_call(1.5))
    assert (reply.body, status_of(reply)) == (b'{"predictions":[3.0]}', "hit; ttl=600")


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (streaming(b"text/event-stream"), policy()),
        (streaming(), policy(entry=16)),
        (streaming(b"x/y", 21), policy(entry=16)),
    ],
)
async def test_a_stream_is_passed_on_as_it_comes(answer: Callable[[Call], Reply], rule: CachePolicy) -> None:
    bench = Bench(answer, rule)
    reply = await bench.ask(predict_call(1.5))
    assert status_of(reply) == "fwd=uri-miss; detail=stream"
    assert isinstance(reply.body, Stream)
    assert await reply.body.read() == b'{"predictions":[3.0]}'


def uploaded(*pieces: bytes) -> Call:
    body = Stream(None)
    for piece in pieces:
        body.feed(piece)
    body.end()
    return Call(b"POST", b"/v1/models/digits:predict", JSON_FIELDS, body)


async def test_a_question_may_come_in_pieces() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    assert status_of(await bench.ask(uploaded(b'{"instances":', b"[1.5]}"))) == "hit; ttl=600"


async def test_a_very_large_question_is_passed_on() -> None:
    seen = []

    def relay(call: Call) -> Reply:
        seen.append(call.body)
        return Reply(200, JSON_FIELDS, b"{}")

    bench = Bench(relay)
    reply = await bench.ask(uploaded(*[bytes(300_000)] * 4))
    assert status_of(reply) == "fwd=bypass; detail=large_body"
    assert isinstance(seen[0], Stream)


# ------------------------------------------------------------------ what clients demand
def demanding(directive: bytes) -> Call:
    return predict_call(1.5, headers=(*JSON_FIELDS, (b"Cache-Control", directive)))


async def test_no_cache_asks_the_backend_and_keeps_what_it_says() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.clock.advance(100.0)
    assert status_of(await bench.ask(demanding(b"no-cache"))) == "fwd=request; stored"
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=600"


async def test_an_answer_that_is_too_old_for_the_client_is_asked_anew() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(demanding(b"max-age=10"))) == "hit; ttl=590"
    assert status_of(await bench.ask(demanding(b"min-fresh=590"))) == "fwd=uri-miss; stored"
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(demanding(b"max-age=9"))) == "fwd=uri-miss; stored"


async def test_only_if_cached_never_reaches_the_backend() -> None:
    bench = Bench()
    reply = await bench.ask(demanding(b"only-if-cached"))
    assert (reply.status, status_of(reply)) == (504, "fwd=miss; detail=only_if_cached")
    await bench.ask(predict_call(1.5))
    assert (await bench.ask(demanding(b"only-if-cached"))).status == 200
    special = demanding(b"only-if-cached")
    special.headers += ((b"Range", b"bytes=0-1"),)
    assert (await bench.ask(special)).status == 504
    assert len(bench.upstream.calls) == 1


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


# ------------------------------------------------------------------ single flight
async def test_a_thousand_equal_requests_are_one_upstream_call() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(1000)]
        await turns()
        assert (bench.upstream.in_flight, bench.cache.seeker.in_flight) == (1, 1)
        bench.upstream.release()
    assert {task.result().body for task in asking} == {b'{"predictions":[3.0]}'}
    assert len(bench.upstream.calls) == 1
    assert bench.cache.results == {"miss": 1, "collapsed": 999}
    assert status_of(asking[1].result()) == "fwd=miss; collapsed; ttl=600"


async def test_requests_share_the_items_that_others_wait_for() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5, 2.5)))
        await turns()
        second = group.create_task(bench.ask(predict_call(2.5, 3.5)))
        await turns()
        assert bench.upstream.in_flight == 2
        bench.upstream.release_all()
    assert (numbers(first.result()), numbers(second.result())) == ([3.0, 5.0], [5.0, 7.0])
    assert bench.asked == [[1.5, 2.5], [3.5]]


async def test_when_the_first_caller_leaves_the_others_lose_nothing() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        second = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        first.cancel()
        await turns()
        assert bench.upstream.in_flight == 1
        bench.upstream.release()
    assert first.cancelled()
    assert numbers(second.result()) == [3.0]
    assert len(bench.upstream.calls) == 1


async def test_when_all_have_left_the_upstream_call_is_given_up() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        for task in asking:
            task.cancel()
        await turns()
    assert len(bench.upstream.cancelled) == 1
    assert bench.cache.seeker.in_flight == 0
    bench.upstream.is_held = False
    assert numbers(await bench.ask(predict_call(1.5))) == [3.0]


async def test_equal_callers_get_the_same_failure_and_nobody_after_them() -> None:
    bench = Bench(saying((b"X-Trace", b"t"), status=503), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        bench.upstream.release()
    assert [task.result().status for task in asking] == [503] * 3
    assert asking[0].result().header(b"x-trace") == b"t"
    assert asking[1].result().header(b"x-trace") is None
    assert status_of(asking[1].result()) == "fwd=miss; collapsed; detail=status"
    bench.upstream.is_held, bench.upstream.answer = False, predict
    assert (await bench.ask(predict_call(1.5))).status == 200
    assert len(bench.upstream.calls) == 2


def raising(error: Exception) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        raise error

    return answer


async def failures(asking: list[asyncio.Task[Reply]]) -> list[BaseException | None]:
    await asyncio.wait(asking)
    return [task.exception() for task in asking]


async def test_equal_callers_get_copies_of_the_same_error() -> None:
    bench = Bench(raising(ReadTimeout("slow")), is_held=True)
    loop = asyncio.get_running_loop()
    asking = [loop.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
    await turns()
    bench.upstream.release()
    errors = await failures(asking)
    assert [str(error) for error in errors] == ["slow"] * 3
    assert len(set(map(id, errors))) == 3
    assert len(bench.upstream.calls) == 1


async def test_a_failure_that_may_be_due_to_other_items_is_not_shared() -> None:
    bench = Bench(saying(status=400), is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5, -666.0)))
        await turns()
        second = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        bench.upstream.release()
        await turns()
        bench.upstream.answer = predict
        bench.upstream.release_all()
    assert first.result().status == 400
    assert numbers(second.result()) == [3.0]
    assert status_of(second.result()) == "fwd=miss; detail=items; stored"


async def test_an_answer_that_may_not_be_kept_is_not_shared() -> None:
    bench = Bench(saying((b"Cache-Control", b"private")), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        bench.upstream.release()
        await turns()
        assert bench.upstream.in_flight == 2  # at once, not one after the other
        bench.upstream.release_all()
    assert len(bench.upstream.calls) == 3
    assert status_of(asking[1].result()) == "fwd=miss; detail=not_kept"


async def test_a_stream_goes_to_the_caller_who_asked_first() -> None:
    bench = Bench(streaming(b"text/event-stream"), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(2)]
        await turns()
        bench.upstream.release()
        await turns()
        bench.upstream.release_all()
    bodies = [task.result().body for task in asking]
    assert all(isinstance(body, Stream) for body in bodies)
    assert bodies[0] is not bodies[1]


async def test_a_stream_that_nobody_can_take_any_more_is_freed() -> None:
    body = Stream(None)
    bench = Bench(lambda _: Reply(200, (), body), is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        second = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        first.cancel()
        await turns()
        bench.upstream.release()
        await turns()
        assert body._closed
        bench.upstream.answer = predict
        bench.upstream.release_all()
    assert numbers(second.result()) == [3.0]


# ------------------------------------------------------------------ deadlines and the end
async def test_a_waiting_caller_gives_up_at_its_own_deadline() -> None:
    bench = Bench(is_held=True)
    loop = asyncio.get_running_loop()
    patient = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    hasty = loop.create_task(bench.ask(predict_call(1.5, deadline=Deadline(bench.clock.now() + 1))))
    await turns()
    bench.clock.advance(1.0)
    with pytest.raises(DeadlineExceeded):
        await hasty
    bench.upstream.release()
    assert numbers(await patient) == [3.0]
    assert not bench.clock.pending


async def test_another_callers_deadline_is_not_shared() -> None:
    def late(call: Call) -> Reply:
        raise DeadlineExceeded

    bench = Bench(late, is_held=True)
    loop = asyncio.get_running_loop()
    hasty = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    patient = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    bench.upstream.release()
    await turns()
    bench.upstream.answer = predict
    bench.upstream.release_all()
    assert numbers(await patient) == [3.0]
    with pytest.raises(DeadlineExceeded):
        await hasty


async def test_the_end_reaches_those_who_wait() -> None:
    bench = Bench(is_held=True)
    await bench.cache.start()
    waiting = asyncio.get_running_loop().create_task(bench.ask(predict_call(1.5)))
    await turns()
    await bench.cache.drain(0.0)
    await bench.cache.stop()
    with pytest.raises(Draining):
        await waiting
    assert bench.upstream.in_flight == 0


async def test_a_fault_of_ours_is_reported_and_ends_the_wait() -> None:
    bench = Bench(raising(KeyError("bug")))
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    with pytest.raises(ProxyError):
        await bench.ask(predict_call(1.5))
    assert isinstance(reported[0], KeyError)


# ------------------------------------------------------------------ stale answers
async def test_when_the_backend_fails_an_old_answer_is_given_where_allowed() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_if_error=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    for failing in (raising(ReadTimeout("slow")), saying(status=503)):
        bench.upstream.answer = failing
        reply = await bench.ask(predict_call(1.5))
        assert (numbers(reply), reply.header(b"age")) == ([3.0], b"6")
        assert status_of(reply) == "hit; fwd=stale; detail=upstream_error; ttl=-1"
    assert bench.cache.results["stale"] == 2
    bench.upstream.answer = raising(ReadTimeout("slow"))
    with pytest.raises(ReadTimeout):
        await bench.ask(demanding(b"max-age=600"))
    bench.clock.advance(10.0)
    with pytest.raises(ReadTimeout):
        await bench.ask(predict_call(1.5))


async def test_those_who_share_a_failure_get_the_old_answer_too() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_if_error=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.answer, bench.upstream.is_held = raising(ReadTimeout("slow")), True
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(2)]
        await turns()
        bench.upstream.release()
    assert [numbers(task.result()) for task in asking] == [[3.0], [3.0]]


async def test_a_stale_answer_is_given_at_once_while_a_new_one_is_fetched() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_while_revalidate=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.is_held = True
    for _ in range(3):
        assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=-1"
    await turns()
    assert bench.upstream.in_flight == 1
    bench.upstream.release()
    await turns()
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=5"
    assert bench.cache.results == {"miss": 1, "stale": 3, "hit": 1}


async def test_a_refresh_that_fails_is_nobodys_failure() -> None:
    bench = Bench(raising(Reset("x")), policy(ttl=5.0, stale_while_revalidate=10.0))
    bench.upstream.answer = predict
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.answer = raising(ReadTimeout("x"))
    assert numbers(await bench.ask(predict_call(1.5))) == [3.0]
    await turns()
    assert bench.cache.seeker.in_flight == 0


# ------------------------------------------------------------------ generations
async def test_a_load_through_the_proxy_makes_answers_old() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    await bench.ask(predict_call(0.5), CONTROL)
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_a_load_that_failed_makes_answers_old_too() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = raising(ReadTimeout("x"))
    with pytest.raises(ReadTimeout):
        await bench.ask(predict_call(0.5), CONTROL)
    bench.upstream.answer = predict
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_an_answer_under_way_during_a_load_is_not_kept() -> None:
    bench = Bench(is_held=True)
    asking = asyncio.get_running_loop().create_task(bench.ask(predict_call(1.5)))
    await turns()
    bench.upstream.is_held = False
    await bench.ask(predict_call(0.5), CONTROL)
    bench.upstream.release_all()
    assert numbers(await asking) == [3.0]
    assert len(bench.cache.store.memory.lru) == 0


@pytest.mark.parametrize("error", [ConnectFailed("gone"), Reset("gone")])
async def test_a_backend_that_was_away_answers_anew(error: ProxyError) -> None:
    bench = Bench(rule=policy(stale_if_error=60.0))
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = raising(error)
    with pytest.raises(type(error)):
        await bench.ask(predict_call(2.5))
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=600"  # still of use while it is away
    bench.upstream.answer = predict
    await bench.ask(predict_call(2.5))
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


# ------------------------------------------------------------------ metadata
async def test_metadata_is_kept_only_where_wanted() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b'{"name":"digits"}'))
    for _ in range(2):
        await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert len(bench.upstream.calls) == 2


async def test_metadata_is_kept_briefly() -> None:
    bench = Bench(
        lambda _: Reply(200, JSON_FIELDS, b'{"name":"digits","id":"1"}'), policy(mode="off"), metadata=2.0
    )
    for _ in range(2):
        reply = await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert (status_of(reply), reply.body) == ("hit; ttl=2", b'{"name":"digits","id":"1"}')
    bench.clock.advance(2.0)
    await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert len(bench.upstream.calls) == 2


async def test_only_reading_metadata_is_a_question() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b"[]"), metadata=2.0)
    for _ in range(2):
        await bench.ask(Call(b"POST", b"/v2/repository/index", JSON_FIELDS, b"{}"), METADATA)
    assert len(bench.upstream.calls) == 2


# ------------------------------------------------------------------ operators
async def test_a_purge_forgets() -> None:
    bench = Bench()
    for upstream, model in (("", ""), ("model", ""), ("", "digits"), ("model", "digits")):
        await bench.ask(predict_call(1.5))
        assert status_of(await bench.ask(predict_call(1.5))).startswith("hit")
        await bench.cache.purge(upstream, model)
        assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"
    await bench.cache.purge("model", "another")
    assert status_of(await bench.ask(predict_call(1.5))).startswith("hit")


async def test_stats_tell_what_there_is() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    stats = await bench.cache.stats()
    assert stats["results"] == {"miss": 1}
    assert (stats["in_flight"], stats["storage"]) == (0, None)
    memory = stats["memory"]
    assert isinstance(memory, dict)
    assert memory["entries"] == 1
    assert 0 < memory["bytes"] < memory["max_bytes"]
