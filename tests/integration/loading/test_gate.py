"""The gate: what a call goes through when its model is managed."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.errors import ClientGone, LoadFailed, ModelLoading, QueueFull, Reset
from proxy.exchange import Call, Reply, Stream
from proxy.loading.control.protobuf import encode
from proxy.loading.gate import Gate
from proxy.loading.slot import State
from proxy.protobuf.framing import frame
from proxy.timing import NEVER
from tests.support.clock import FakeClock
from tests.support.fleet import Fleet


class Upstream:
    """Answers in turn, the last answer for ever."""

    def __init__(self, *answers: Reply | BaseException) -> None:
        self.answers = list(answers) or [Reply(200, (), b"fine")]
        self.targets: list[bytes] = []
        self.redirected: list[bool] = []
        self.bodies: list[object] = []

    async def __call__(self, call: Call, *, is_redirected: bool = False) -> Reply:
        self.redirected.append(is_redirected)
        self.targets.append(call.target)
        self.bodies.append(call.body)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def gate(fleet: Fleet, *fallbacks: str, header: bytes = b"") -> Gate:
    return Gate(fleet, lambda _model: fallbacks, FakeClock(), header)


def call(body: bytes | Stream = b"{}", target: bytes = b"/v2/models/a/infer?x=1") -> Call:
    return Call(b"POST", target, ((b"X-User", b"ann"),), body, deadline=NEVER)


def streamed(*chunks: bytes) -> Stream:
    body = Stream(None)
    for chunk in chunks:
        body.feed(chunk)
    body.end()
    return body


async def test_passes_what_is_not_managed() -> None:
    upstream = Upstream()
    reply = await gate(Fleet()).serve(call(), "a", upstream)
    assert reply.body == b"fine"


async def test_a_ready_model_is_observed_and_served() -> None:
    fleet = Fleet(a="ready")
    await gate(fleet, header=b"x-user").serve(call(), "a", Upstream())
    assert fleet.in_flight == {"a": 0}
    assert fleet.sessions == ["ann"]


async def test_a_call_that_teaches_nothing_is_merely_counted() -> None:
    for header, looks in ((b"", []), (b"x-nobody", []), (b"x-user", ["ann"])):
        fleet = Fleet(a="ready")
        door = gate(fleet, header=header)
        fleet.slots["a"].counted_at = fleet.epoch + FakeClock().now()
        await door.serve(call(), "a", Upstream())
        assert fleet.sessions == looks
        assert fleet.slots["a"].uncounted == 1


async def test_without_a_session_header_nobody_is_told_apart() -> None:
    fleet = Fleet(a="ready")
    await gate(fleet).serve(call(), "a", Upstream())
    assert fleet.sessions == [""]


async def test_a_cold_model_is_waited_for() -> None:
    fleet = Fleet(a="unloaded")
    assert (await gate(fleet).serve(call(), "a", Upstream())).status == 200
    assert fleet.in_flight == {"a": 0}


@pytest.mark.parametrize("error", [ModelLoading("later", retry_after_s=7), LoadFailed("broken")])
async def test_a_refusal_reaches_the_client(error: Exception) -> None:
    fleet = Fleet(a="unloaded")
    fleet.refusal = error
    with pytest.raises(type(error)) as caught:
        await gate(fleet).serve(call(), "a", Upstream())
    assert caught.value is error
    assert fleet.in_flight == {"a": 0}


@pytest.mark.parametrize("error", [Reset("gone"), ClientGone(), asyncio.CancelledError()])
async def test_a_call_that_fails_is_finished(error: BaseException) -> None:
    fleet = Fleet(a="ready")
    with pytest.raises(type(error)):
        await gate(fleet).serve(call(), "a", Upstream(error))
    assert fleet.in_flight == {"a": 0}


async def test_a_streamed_answer_counts_until_it_has_left() -> None:
    fleet = Fleet(a="ready")
    body = streamed(b"token")
    reply = await gate(fleet).serve(call(), "a", Upstream(Reply(200, (), body)))
    assert fleet.in_flight == {"a": 1}
    assert isinstance(reply.body, Stream)
    while await reply.body.read():
        pass
    assert fleet.in_flight == {"a": 0}


class TestColdAnswers:
    async def test_the_call_is_sent_once_more(self) -> None:
        fleet = Fleet(a="ready")
        upstream = Upstream(Reply(404, (), b"cold"), Reply(200, (), b"fine"))
        reply = await gate(fleet).serve(call(b"body"), "a", upstream)
        assert reply.status == 200
        assert upstream.bodies == [b"body", b"body"]
        assert fleet.in_flight == {"a": 0}

    async def test_once_only(self) -> None:
        fleet = Fleet(a="ready")
        upstream = Upstream(Reply(404, (), b"cold"))
        assert (await gate(fleet).serve(call(), "a", upstream)).status == 404
        assert len(upstream.targets) == 2

    async def test_a_streamed_error_is_read_and_passed_on(self) -> None:
        fleet = Fleet(a="ready")
        upstream = Upstream(Reply(503, (), streamed(b"over", b"loaded")))
        reply = await gate(fleet).serve(call(), "a", upstream)
        assert (reply.status, reply.body) == (503, b"overloaded")
        cold = Upstream(Reply(503, (), streamed(b"co", b"ld")), Reply(200, (), b"fine"))
        assert (await gate(fleet).serve(call(), "a", cold)).status == 200

    async def test_a_long_error_is_passed_on_unread(self) -> None:
        fleet = Fleet(a="ready")
        body = Stream(None, length=1 << 20)
        reply = await gate(fleet).serve(call(), "a", Upstream(Reply(404, (), body)))
        assert reply.body is body
        assert fleet.in_flight == {"a": 1}
        body.abandon()
        assert fleet.in_flight == {"a": 0}

    async def test_a_body_that_has_gone_cannot_be_sent_again(self) -> None:
        fleet = Fleet(a="ready")
        upstream = Upstream(Reply(404, (), b"cold"))
        reply = await gate(fleet).serve(call(streamed(b"x")), "a", upstream)
        assert reply.status == 404
        assert fleet.slots["a"].state is State.UNLOADED
        assert len(upstream.targets) == 1

    @pytest.mark.parametrize("error", [ModelLoading("later"), LoadFailed("no"), QueueFull("many")])
    async def test_when_it_cannot_be_loaded_the_backends_words_stand(self, error: Exception) -> None:
        fleet = Fleet(a="ready")
        fleet.refusal = error
        reply = await gate(fleet).serve(call(), "a", Upstream(Reply(404, (), b"cold")))
        assert (reply.status, reply.body) == (404, b"cold")


class TestModelInTheBody:
    BODY = json.dumps({"model": "a", "messages": [{"role": "user", "content": "hi"}]}).encode()

    async def test_is_found(self) -> None:
        for body in (self.BODY, streamed(self.BODY[:9], self.BODY[9:])):
            fleet = Fleet(a="unloaded")
            upstream = Upstream()
            await gate(fleet).serve(call(body, b"/v1/chat/completions"), "", upstream)
            assert fleet.slots["a"].state is State.READY
            assert upstream.bodies == [self.BODY]

    @pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"model": 3}', b'{"other": 1}'])
    async def test_is_not_found(self, body: bytes) -> None:
        upstream = Upstream()
        await gate(Fleet(a="unloaded")).serve(call(body, b"/v1/chat/completions"), "", upstream)
        assert upstream.bodies == [body]

    async def test_a_huge_body_passes_unread(self) -> None:
        body = Stream(None, length=1 << 30)
        upstream = Upstream()
        await gate(Fleet(a="unloaded")).serve(call(body, b"/v1/chat/completions"), "", upstream)
        assert upstream.bodies == [body]

    async def test_a_body_that_is_still_coming_passes_unread_where_models_are_only_observed(self) -> None:
        fleet = Fleet(a="unloaded")
        fleet.acts = False
        body = Stream(None)
        upstream = Upstream()
        await gate(fleet).serve(call(body, b"/v1/chat/completions"), "", upstream)
        assert upstream.bodies == [body]

    async def test_a_name_may_be_short_for_what_the_server_lists(self) -> None:
        fleet = Fleet(**{"a:latest": "unloaded"})
        upstream = Upstream()
        await gate(fleet).serve(call(self.BODY, b"/api/chat"), "", upstream)
        assert fleet.slots["a:latest"].state is State.READY
        assert upstream.bodies == [self.BODY]


class TestGrpc:
    def grpc(self, message: bytes, method: bytes = b"ModelInfer") -> Call:
        made = call(frame(message), b"/inference.GRPCInferenceService/" + method)
        made.is_grpc = True
        return made

    async def test_a_two_way_stream_is_not_read(self) -> None:
        request = self.grpc(b"", b"ModelStreamInfer")
        request.body = endless = Stream(None)
        upstream = Upstream()
        await gate(Fleet(a="unloaded")).serve(request, "", upstream)
        assert upstream.bodies == [endless]

    @pytest.mark.parametrize("place", ["headers", "trailers"])
    async def test_a_cold_answer_is_known_by_its_status(self, place: str) -> None:
        fleet = Fleet(a="ready")
        gone = Reply(200, ())
        setattr(gone, place, ((b"grpc-status", b"5"), (b"grpc-message", b"%63old")))
        fine = Reply(200, (), b"fine")
        fine.trailers = ((b"grpc-status", b"0"),)
        upstream = Upstream(gone, fine)
        reply = await gate(fleet).serve(self.grpc(encode((1, "a"))), "a", upstream)
        assert (reply.body, fleet.lost) == (b"fine", [404])

    async def test_other_answers_count_by_their_status(self) -> None:
        fleet = Fleet(a="ready")
        bad = Reply(200, ((b"grpc-status", b"13"),))
        coming = Reply(200, (), Stream(None))
        for reply in (bad, coming):
            await gate(fleet).serve(self.grpc(encode((1, "a"))), "a", Upstream(reply))
        assert (fleet.answers, fleet.in_flight) == (1, {"a": 1})

    async def test_a_fallback_answers_to_the_same_message(self) -> None:
        fleet = Fleet(a="unloaded", b="ready")
        fleet.refusal = ModelLoading("later")
        upstream = Upstream()
        request = self.grpc(encode((5, b"tensor"), (1, "a"), (2, "7")))
        await gate(fleet, "b").serve(request, "a", upstream, (1,))
        assert upstream.bodies == [frame(encode((1, "b"), (5, b"tensor"), (2, "7")))]

    @pytest.mark.parametrize(
        ("body", "model_at"),
        [(b"\1\0\0\0\0", (1,)), (frame(b"\x0a\x05"), (1,)), (frame(b"\x0a\1a"), ()), (Stream(None), (1,))],
    )
    async def test_what_cannot_be_rewritten_has_no_fallback(
        self, body: bytes | Stream, model_at: tuple[int, ...]
    ) -> None:
        fleet = Fleet(a="unloaded", b="ready")
        fleet.refusal = ModelLoading("later")
        request = self.grpc(b"")
        request.body = body
        with pytest.raises(ModelLoading):
            await gate(fleet, "b").serve(request, "a", Upstream(), model_at)


class TestFallback:
    def cold(self, **others: str) -> Fleet:
        fleet = Fleet(a="unloaded", **others)
        fleet.refusal = ModelLoading("later")
        return fleet

    async def test_the_first_that_is_ready_answers(self) -> None:
        fleet = self.cold(b="unloaded", c="ready")
        upstream = Upstream()
        request = call(target=b"/v2/models/a/infer?x=1")
        reply = await gate(fleet, "a", "b", "c").serve(request, "a", upstream)
        assert upstream.targets == [b"/v2/models/c/infer?x=1"]
        assert upstream.redirected == [True]
        assert reply.header(b"x-model-fallback") == b"c"
        assert reply.header(b"cache-control") == b"no-store"
        assert fleet.in_flight == {"a": 0, "b": 0, "c": 0}

    async def test_names_are_found_with_a_verb_and_encoded(self) -> None:
        upstream = Upstream()
        await gate(self.cold(**{"b c": "ready"}), "b c").serve(
            call(target=b"/v1/models/%61:predict"), "a", upstream
        )
        assert upstream.targets == [b"/v1/models/b%20c:predict"]

    async def test_a_name_in_the_body_is_replaced(self) -> None:
        upstream = Upstream()
        body = b'{"model":"a","n":[1, 2]}'
        await gate(self.cold(b="ready"), "b").serve(call(body, b"/v1/completions"), "", upstream)
        assert [json.loads(str(b, "utf-8")) for b in upstream.bodies if isinstance(b, bytes)] == [
            {"model": "b", "n": [1, 2]}
        ]

    @pytest.mark.parametrize("body", [b"not json", Stream(None)])
    async def test_what_cannot_be_redirected_is_refused(self, body: bytes | Stream) -> None:
        with pytest.raises(ModelLoading):
            await gate(self.cold(b="ready"), "b").serve(call(body, b"/elsewhere"), "a", Upstream())

    async def test_an_error_of_the_fallback_is_an_error(self) -> None:
        fleet = self.cold(b="ready")
        with pytest.raises(Reset):
            await gate(fleet, "b").serve(call(), "a", Upstream(Reset("gone")))
        assert fleet.in_flight == {"a": 0, "b": 0}


def test_an_explanation_tells_who_waits() -> None:
    fleet = Fleet(a="unloaded", b="ready")
    assert gate(fleet).explain(call(), "zzz") == {"model": "zzz", "managed": False}
    assert gate(fleet).explain(call(), "a") == {
        "model": "a",
        "managed": True,
        "state": "unloaded",
        "waits": True,
        "ready_in_s": 2.5,
    }
    assert gate(fleet).explain(call(b'{"model":"b"}'), "")["waits"] is False


def test_an_explanation_tells_who_is_refused_and_who_would_answer() -> None:
    fleet = Fleet(a="unloaded", b="ready")
    fleet.refusal = ModelLoading()
    found = gate(fleet, "a", "b").explain(call(), "a")
    assert (found["refused"], found["fallback"]) == ({"reason": "full", "why": "3 already wait"}, "b")
    assert gate(fleet, "a").explain(call(), "a")["fallback"] is None


def test_an_explanation_does_not_wait_for_a_body() -> None:
    assert gate(Fleet()).explain(call(Stream(None)), "") == {"model": "", "managed": False}


async def test_a_call_for_a_managed_model_that_is_not_there_would_wait() -> None:
    gate = Gate(Fleet(warm="ready", cold="unloaded"), lambda _model: (), FakeClock())
    assert [gate.is_cold(model) for model in ("warm", "cold", "unknown")] == [False, True, False]
