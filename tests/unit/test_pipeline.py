"""The request path: every call is admitted, dispatched and accounted for exactly once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.batching.lane import Batcher
from proxy.batching.policy import BatchPolicy
from proxy.errors import BadRequest, Overloaded, ProxyError, Reset, RouteNotFound
from proxy.exchange import Call, Ledger, Reply, Stream
from proxy.pipeline import Pipeline
from proxy.routing.admission import Admission
from proxy.routing.policy import Route, Rule
from proxy.routing.table import RouteTable
from proxy.service import Service
from proxy.streaming.policy import StreamPolicy
from proxy.streaming.streams import Streams
from proxy.telemetry.metrics import Metrics
from proxy.timing import LoopClock
from tests.support.caching import DETERMINISTIC, a_cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.caching.cache import Cache
    from proxy.telemetry.ended import Ended

ROUTES = RouteTable(
    [
        Route(
            "predict",
            "model",
            "kserve-v1",
            "infer",
            (Rule(("POST",), "/v1/models/{model}:predict"),),
            "kserve_v1",
            idempotent=True,
            timeout_s=30.0,
        ),
        Route("chat", "model", "openai", "stream", (Rule(("POST",), "/v1/chat/completions"),)),
        Route("pass", "model", "openai", "other", (Rule((), "/pass*"),), timeout_s=5.0, dialect="openai"),
    ]
)


ADAPTIVE = BatchPolicy()


class Upstream:
    """Answers as the test says; remembers what it got."""

    def __init__(self, answer: Callable[[Call], Awaitable[Reply]]) -> None:
        self._answer = answer
        self.calls: list[Call] = []
        self.called = asyncio.Event()

    async def exchange(self, call: Call) -> Reply:
        self.calls.append(call)
        self.called.set()
        return await self._answer(call)


class Recorder:
    """Stands in for telemetry: what was recorded, in order."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def record(self, call: Call, ended: Ended) -> None:
        self.ended.append(ended)

    def batched(self, model: str, items: int, trigger: str, wait_s: float) -> None:
        pass

    def refused(self, model: str, why: str) -> None:
        pass

    def isolated(self, model: str) -> None:
        pass


class Bench:
    """A pipeline with everything around it within reach."""

    def __init__(
        self,
        answer: Callable[[Call], Awaitable[Reply]],
        policy: BatchPolicy = ADAPTIVE,
        limit: int = 10,
        cache: Cache | None = None,
    ) -> None:
        self.upstream = Upstream(answer)
        self.recorder = Recorder()
        self.admission = Admission(limit)
        self.streamed: list[str] = []  # the models whose streaming policy was asked for
        clock = LoopClock()
        batcher = Batcher(self.upstream, clock, self.recorder)
        service = Service(self.upstream, batcher, lambda _model: policy, cache, lambda _model: DETERMINISTIC)
        self.pipeline = Pipeline(
            ROUTES,
            {"model": service},
            admission=self.admission,
            streams=Streams(self._policy, Metrics("0").stream, clock, Ledger(1 << 30)),
            telemetry=self.recorder,
            clock=clock,
        )

    def _policy(self, model: str) -> StreamPolicy:
        self.streamed.append(model)
        return StreamPolicy()

    @property
    def last(self) -> Ended:
        (ended,) = self.recorder.ended
        return ended


async def fine(call: Call) -> Reply:
    return Reply(200, ((b"Content-Type", b"application/json"),), b'{"predictions":[1]}')


def wishing(timeout: bytes) -> Call:
    call = Call(b"GET", b"/pass", ())
    call.timeout_wish = timeout
    return call


def predict(body: bytes | Stream = b'{"instances":[1]}') -> Call:
    return Call(b"POST", b"/v1/models/m:predict", ((b"Content-Type", b"application/json"),), body)


async def test_a_direct_call_takes_its_routes_dialect_deadline_and_idempotence() -> None:
    bench = Bench(fine)
    call = Call(b"GET", b"/pass/1", ())
    reply = await bench.pipeline.serve(call)
    assert reply.status == 200
    assert (call.dialect, call.idempotent) == ("openai", False)
    assert call.deadline == call.started_at + 5.0
    assert (bench.last.route, bench.last.outcome, bench.last.status, bench.last.bytes_out) == (
        "pass",
        "ok",
        200,
        19,
    )
    assert bench.admission.in_flight == 0


async def test_an_inference_goes_through_a_lane() -> None:
    bench = Bench(fine)
    call = predict()
    assert (await bench.pipeline.serve(call)).body == b'{"predictions":[1]}'
    assert call.batch.startswith(b"size=1")
    assert call.idempotent
    assert bench.last.model == "m"


async def test_a_kept_answer_reaches_neither_lane_nor_upstream() -> None:
    bench = Bench(fine, cache=a_cache())
    for _ in range(2):
        reply = await bench.pipeline.serve(predict())
    assert (reply.body, reply.source) == (b'{"predictions":[1]}', "cache")
    assert len(bench.upstream.calls) == 1
    assert [ended.outcome for ended in bench.recorder.ended] == ["ok", "ok"]
    assert bench.admission.in_flight == 0


async def test_a_call_that_is_seen_off_is_accounted_for_when_it_leaves() -> None:
    bench = Bench(fine)
    call = predict()
    call.is_seen_off = True
    await bench.pipeline.serve(call)
    assert (bench.recorder.ended, bench.admission.in_flight) == ([], 1)
    call.left()
    assert (bench.last.outcome, bench.admission.in_flight) == ("ok", 0)


async def test_a_stream_counts_until_its_end_whoever_sees_it_off() -> None:
    body = Stream(None)

    async def streaming(call: Call) -> Reply:
        return Reply(200, (), body)

    bench = Bench(streaming)
    call = Call(b"GET", b"/pass", ())
    call.is_seen_off = True
    await bench.pipeline.serve(call)
    call.left()
    assert (bench.recorder.ended, bench.admission.in_flight) == ([], 1)
    body.end()
    assert await body.read() == b""
    assert (bench.last.outcome, bench.admission.in_flight) == ("ok", 0)


async def test_an_upstream_error_status_is_a_reply() -> None:
    async def angry(call: Call) -> Reply:
        return Reply(500, (), b"oh")

    bench = Bench(angry)
    assert (await bench.pipeline.serve(Call(b"GET", b"/pass", ()))).status == 500
    assert (bench.last.outcome, bench.last.reason) == ("upstream_error", "")


@pytest.mark.parametrize(
    ("call", "error", "route"),
    [
        (Call(b"GET", b"/nowhere", ()), RouteNotFound, ""),
        (wishing(b"soon"), BadRequest, "pass"),
    ],
)
async def test_refused_at_the_door(call: Call, error: type[ProxyError], route: str) -> None:
    bench = Bench(fine)
    with pytest.raises(error):
        await bench.pipeline.serve(call)
    assert (bench.last.outcome, bench.last.reason, bench.last.route) == ("client_error", error.reason, route)
    assert bench.upstream.calls == []
    assert bench.admission.in_flight == 0


async def test_calls_over_the_limit_are_shed_and_counted() -> None:
    bench = Bench(fine, limit=1)
    bench.admission.enter()
    with pytest.raises(Overloaded):
        await bench.pipeline.serve(Call(b"GET", b"/pass", ()))
    assert (bench.last.outcome, bench.last.reason) == ("shed", "overloaded")
    assert bench.admission.in_flight == 1


async def test_an_upstream_failure_is_accounted_and_passed_on() -> None:
    async def broken(call: Call) -> Reply:
        raise Reset("gone")

    bench = Bench(broken)
    with pytest.raises(Reset):
        await bench.pipeline.serve(Call(b"GET", b"/pass", ()))
    assert (bench.last.status, bench.last.outcome, bench.last.reason) == (502, "upstream_error", "reset")
    assert bench.admission.in_flight == 0


async def test_a_fault_of_ours_is_accounted_as_ours() -> None:
    async def bug(call: Call) -> Reply:
        raise KeyError("x")

    bench = Bench(bug)
    with pytest.raises(KeyError):
        await bench.pipeline.serve(Call(b"GET", b"/pass", ()))
    assert (bench.last.status, bench.last.outcome) == (500, "proxy_error")
    assert bench.admission.in_flight == 0


@pytest.mark.parametrize("call", [Call(b"GET", b"/pass", ()), predict()])
async def test_a_client_that_leaves_is_accounted_as_cancelled(call: Call) -> None:
    async def never(call: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    bench = Bench(never)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(bench.pipeline.serve(call))
        await bench.upstream.called.wait()
        assert bench.admission.in_flight == 1
        serving.cancel()
    assert (bench.last.status, bench.last.outcome) == (499, "cancelled")
    assert bench.admission.in_flight == 0


async def streaming(end: Callable[[Stream], None]) -> tuple[Bench, Stream]:
    async def stream(call: Call) -> Reply:
        return Reply(200, (), Stream(None))

    bench = Bench(stream)
    body = (await bench.pipeline.serve(Call(b"GET", b"/pass", ()))).body
    assert isinstance(body, Stream)
    assert bench.admission.in_flight == 1
    assert bench.recorder.ended == []
    body.feed(b"abc")
    await body.read()
    end(body)
    return bench, body


async def test_a_stream_counts_until_its_end_was_read() -> None:
    bench, body = await streaming(Stream.end)
    assert await body.read() == b""
    assert (bench.last.outcome, bench.last.bytes_out) == ("ok", 3)
    assert bench.admission.in_flight == 0


async def test_a_stream_that_breaks_off_is_the_upstreams_error() -> None:
    bench, body = await streaming(lambda stream: stream.fail(Reset("gone")))
    with pytest.raises(Reset):
        await body.read()
    assert (bench.last.outcome, bench.last.reason) == ("upstream_error", "reset")
    assert bench.admission.in_flight == 0


async def test_a_stream_that_is_abandoned_was_cancelled() -> None:
    bench, _ = await streaming(Stream.abandon)
    assert (bench.last.status, bench.last.outcome) == (499, "cancelled")
    assert bench.admission.in_flight == 0


def arriving(*pieces: bytes, length: int | None = None) -> Stream:
    body = Stream(None, length)
    for piece in pieces:
        body.feed(piece)
    body.end()
    return body


@pytest.mark.parametrize("length", [None, 17])
async def test_a_body_that_arrives_in_pieces_is_gathered_for_its_batch(length: int | None) -> None:
    bench = Bench(fine)
    await bench.pipeline.serve(predict(arriving(b'{"instances"', b":[1]}", length=length)))
    assert bench.upstream.calls[0].body == b'{"instances":[1]}'


@pytest.mark.parametrize("length", [None, 40])
async def test_a_body_too_long_for_a_batch_is_relayed_whole(length: int | None) -> None:
    bench = Bench(fine, BatchPolicy.model_construct(**{**BatchPolicy().__dict__, "max_bytes": 16}))
    await bench.pipeline.serve(predict(arriving(b"x" * 20, b"y" * 20, length=length)))
    body = bench.upstream.calls[0].body
    assert isinstance(body, Stream)
    assert await body.read() == b"x" * 20 + b"y" * 20


async def test_with_batching_off_a_stream_is_not_gathered() -> None:
    bench = Bench(fine, BatchPolicy.model_construct(**{**BatchPolicy().__dict__, "mode": "off"}))
    body = arriving(b"{}")
    await bench.pipeline.serve(predict(body))
    assert bench.upstream.calls[0].body is body


@pytest.mark.parametrize("is_arriving", [False, True])
async def test_the_model_that_a_body_names_chooses_the_policy_and_is_recorded(*, is_arriving: bool) -> None:
    async def answer(call: Call) -> Reply:
        return Reply(200, (), Stream(None))

    bench = Bench(answer)
    body = b'{"messages": [], "model": "parrot"}'
    call = Call(b"POST", b"/v1/chat/completions", ())
    call.body = arriving(body[:9], body[9:], length=len(body)) if is_arriving else body
    reply = await bench.pipeline.serve(call)
    assert set(bench.streamed) == {"parrot"}
    assert bench.upstream.calls[0].body == body
    assert isinstance(reply.body, Stream)
    reply.body.end()
    assert await reply.body.read() == b""
    assert (bench.last.model, bench.last.route) == ("parrot", "chat")


async def test_a_body_of_unknown_length_is_passed_on_and_names_nothing() -> None:
    bench = Bench(fine)
    call = Call(b"POST", b"/v1/chat/completions", ())
    call.body = arriving(b'{"model": "parrot"}')
    await bench.pipeline.serve(call)
    assert isinstance(bench.upstream.calls[0].body, Stream)
    assert bench.last.model == ""
