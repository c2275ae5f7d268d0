"""Calls without a task: what `Pipeline.begin` takes, and that each is accounted for once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from proxy.batching.policy import BatchPolicy
from proxy.errors import BadReply, ClientGone, Overloaded
from proxy.exchange import Call, Reply, Stream
from proxy.loading.gate import Gate
from proxy.loading.slot import State
from proxy.pipeline import Pipeline
from proxy.protobuf.framing import frame
from proxy.routing.admission import Admission
from proxy.routing.policy import Route, Rule
from proxy.routing.table import RouteTable
from proxy.service import Service
from tests.support.fleet import Fleet
from tests.support.manual_clock import ManualClock

if TYPE_CHECKING:
    from proxy.batching.lane import Batcher
    from proxy.errors import ProxyError
    from proxy.exchange import Rest, Taker
    from proxy.telemetry.ended import Ended

OK = ((b"grpc-status", b"0"),)
IDLE = {"digits": 0, "iris": 0}


class Prompt:
    """An upstream that begins calls while `has_room`; also what was begun, and the taker."""

    def __init__(self) -> None:
        self.has_room = True
        self.is_cancelled = False
        self.answer: Reply | None = None
        self.taker: Taker

    async def exchange(self, call: Call) -> Reply:
        assert self.answer is not None, call
        return self.answer

    def begin(self, call: Call, taker: Taker) -> Prompt | None:
        self.taker = taker
        return self if self.has_room else None

    def cancel(self) -> None:
        self.is_cancelled = True


class Taken:
    """A taker that remembers."""

    def __init__(self) -> None:
        self.heard: list[Reply | ProxyError] = []
        self.rest: Rest

    def take(self, reply: Reply) -> None:
        self.heard.append(reply)

    def fail(self, error: ProxyError) -> None:
        self.heard.append(error)

    def go_on(self, rest: Rest) -> None:
        self.rest = rest


class Scene:
    def __init__(self, limit: int = 10, host: bytes | None = None) -> None:
        self.upstream = Prompt()
        self.ended: list[Ended] = []
        self.admission = Admission(limit)
        self.fleet = Fleet(digits="ready", iris="unloaded")
        batcher = cast("Batcher", None)
        policies = {"alone": BatchPolicy(mode="off")}
        service = Service(
            self.upstream,
            batcher,
            lambda model: policies.get(model, BatchPolicy()),
            gate=Gate(self.fleet, lambda _model: (), ManualClock()),
            host=host,
            has_bridge=True,
            prompt=self.upstream,
        )
        self.pipeline = Pipeline(
            RouteTable(
                (
                    Route("batched", "model", "kserve-v1", "infer", (Rule((), "/b/{model}"),), "kserve_v1"),
                    Route("named", "model", "kserve-v1", "infer", (Rule((), "/n"),), model_at=(1,)),
                    Route("all", "model", "kserve-v1", "other", (Rule((), "/a*"),)),
                )
            ),
            {"model": service},
            admission=self.admission,
            telemetry=self,
            clock=ManualClock(),
        )
        self.taken = Taken()

    def record(self, call: Call, ended: Ended) -> None:
        self.ended.append(ended)


def call(path: bytes = b"/a", body: bytes | Stream = b"") -> Call:
    made = Call(b"POST", path, (), body)
    made.is_grpc = True
    return made


def ask(model: str) -> bytes:
    """A gRPC message that names a model first."""
    return frame(b"\x0a%c%b" % (len(model), model.encode()))


def good() -> Reply:
    reply = Reply(200, (), b"message")
    reply.trailers = OK
    return reply


def test_an_answer_is_passed_on_and_accounted_for() -> None:
    scene = Scene()
    assert scene.pipeline.begin(call(), scene.taken) is not None
    assert scene.admission.in_flight == 1
    reply = good()
    scene.upstream.taker.take(reply)
    assert scene.taken.heard == [reply]
    (ended,) = scene.ended
    assert (ended.status, ended.outcome, ended.bytes_out, ended.route) == (200, "ok", 7, "all")
    assert scene.admission.in_flight == 0


def test_a_failure_is_passed_on_and_accounted_for() -> None:
    scene = Scene()
    scene.pipeline.begin(call(), scene.taken)
    error = BadReply("broken")
    scene.upstream.taker.fail(error)
    assert scene.taken.heard == [error]
    assert [ended.reason for ended in scene.ended] == [error.reason]
    assert scene.admission.in_flight == 0


async def test_the_rest_of_a_call_is_accounted_for_where_it_ends() -> None:
    scene = Scene()
    scene.pipeline.begin(call(), scene.taken)

    async def rest() -> Reply:
        return good()

    scene.upstream.taker.go_on(rest)
    assert scene.ended == []
    assert (await scene.taken.rest()).body == b"message"
    assert [ended.outcome for ended in scene.ended] == ["ok"]
    assert scene.admission.in_flight == 0


async def test_the_rest_of_a_call_may_fail() -> None:
    scene = Scene()
    scene.pipeline.begin(call(), scene.taken)

    async def rest() -> Reply:
        raise BadReply("broken")

    scene.upstream.taker.go_on(rest)
    with pytest.raises(BadReply):
        await scene.taken.rest()
    assert [ended.outcome for ended in scene.ended] == ["upstream_error"]
    assert scene.admission.in_flight == 0


async def test_an_answer_that_streams_goes_on_with_a_task() -> None:
    scene = Scene()
    scene.pipeline.begin(call(), scene.taken)
    body = Stream(None)
    scene.upstream.taker.take(Reply(200, (), body))
    assert (await scene.taken.rest()).body is body
    assert scene.admission.in_flight == 1
    body.end(OK)
    assert await body.read() == b""
    assert [ended.outcome for ended in scene.ended] == ["ok"]
    assert scene.admission.in_flight == 0


def test_a_client_that_leaves_before_its_answers_task_began_cancels_the_call() -> None:
    scene = Scene()
    begun = scene.pipeline.begin(call(), scene.taken)
    assert begun is not None
    scene.upstream.taker.take(Reply(200, (), Stream(None)))
    begun.cancel()
    assert scene.upstream.is_cancelled
    assert scene.admission.in_flight == 0


def test_a_client_that_leaves_cancels_its_call() -> None:
    scene = Scene()
    begun = scene.pipeline.begin(call(), scene.taken)
    assert begun is not None
    begun.cancel()
    assert scene.upstream.is_cancelled
    assert [ended.reason for ended in scene.ended] == [ClientGone().reason]
    assert scene.admission.in_flight == 0


def test_what_has_to_wait_is_left_to_serve() -> None:
    scene = Scene()
    assert scene.pipeline.begin(call(b"/b/many"), scene.taken) is None
    assert scene.pipeline.begin(call(b"/n", ask("iris")), scene.taken) is None
    plain = call()
    plain.is_grpc = False
    assert scene.pipeline.begin(plain, scene.taken) is None
    assert scene.pipeline.begin(call(b"/unknown"), scene.taken) is None
    assert scene.pipeline.begin(call(body=Stream(None)), scene.taken) is None
    scene.upstream.has_room = False
    assert scene.pipeline.begin(call(), scene.taken) is None
    assert Scene(host=b"h").pipeline.begin(call(), scene.taken) is None
    assert scene.ended == []
    assert scene.admission.in_flight == 0


def test_a_call_that_is_not_admitted_is_refused_at_once() -> None:
    scene = Scene(limit=0)
    with pytest.raises(Overloaded):
        scene.pipeline.begin(call(), scene.taken)
    assert [ended.outcome for ended in scene.ended] == ["shed"]


def test_a_call_for_a_model_that_is_not_batched_needs_no_task() -> None:
    scene = Scene()
    assert scene.pipeline.begin(call(b"/b/alone"), scene.taken) is not None
    scene.upstream.taker.take(good())
    assert [ended.model for ended in scene.ended] == ["alone"]
    assert scene.fleet.sessions == []


def test_a_call_for_a_managed_model_that_is_warm_is_observed_until_it_ends() -> None:
    scene = Scene()
    scene.pipeline.begin(call(b"/n", ask("digits")), scene.taken)
    assert scene.fleet.in_flight == {"digits": 1, "iris": 0}
    scene.upstream.taker.take(good())
    assert scene.fleet.in_flight == IDLE
    assert [(ended.model, ended.outcome) for ended in scene.ended] == [("digits", "ok")]


async def test_an_answer_that_calls_the_model_cold_has_it_loaded_and_asks_again() -> None:
    scene = Scene()
    scene.pipeline.begin(call(b"/n", ask("digits")), scene.taken)
    cold = Reply(200, (), b"")
    cold.trailers = ((b"grpc-status", b"5"), (b"grpc-message", b"cold"))
    scene.upstream.taker.take(cold)
    assert scene.taken.heard == []
    scene.upstream.answer = good()
    assert (await scene.taken.rest()).trailers == OK
    assert (scene.fleet.lost, scene.fleet.slots["digits"].state) == ([404], State.READY)
    assert scene.fleet.in_flight == IDLE
    assert [ended.outcome for ended in scene.ended] == ["ok"]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_managed_models_call_that_fails_is_over(*, is_cancelled: bool) -> None:
    scene = Scene()
    begun = scene.pipeline.begin(call(b"/n", ask("digits")), scene.taken)
    assert begun is not None
    if is_cancelled:
        begun.cancel()
    else:
        scene.upstream.taker.fail(BadReply("broken"))
    assert scene.fleet.in_flight == IDLE
    assert scene.admission.in_flight == 0
