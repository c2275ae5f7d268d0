"""A backend for lanes that answers when the test says so, a record of what lanes report, and a stage for both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from proxy.batching.lane import Batcher
from proxy.batching.policy import BatchPolicy
from proxy.exchange import Call, Reply
from proxy.timing import NEVER, Deadline
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers

__all__ = (
    "ADAPTIVE",
    "JSON_FIELDS",
    "HeldUpstream",
    "Recorder",
    "Stage",
    "Subject",
    "infer_call",
    "policy",
    "predict",
    "predict_call",
    "predictions",
    "turns",
)

JSON_FIELDS: Headers = ((b"Content-Type", b"application/json"),)


@dataclass(frozen=True)
class Subject:
    """What routing would say of a call."""

    model: str = "digits"
    codec: str | None = "kserve_v1"


@dataclass
class Recorder:
    """Everything reported, in order."""

    batches: list[tuple[str, int, str, float]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    isolations: list[str] = field(default_factory=list)

    def batched(self, model: str, items: int, trigger: str, wait_s: float) -> None:
        self.batches.append((model, items, trigger, wait_s))

    def refused(self, model: str, why: str) -> None:
        self.refusals.append((model, why))

    def isolated(self, model: str) -> None:
        self.isolations.append(model)


def predict(call: Call) -> Reply:
    """A V1 model that doubles: one number for each instance."""
    assert isinstance(call.body, bytes)
    instances = msgspec.json.decode(call.body)["instances"]
    body = msgspec.json.encode({"predictions": [2 * instance for instance in instances]})
    return Reply(200, JSON_FIELDS, body, reason=b"OK")


def predict_call(*instances: object, headers: Headers = JSON_FIELDS, deadline: float = NEVER) -> Call:
    """A V1 request."""
    body = msgspec.json.encode({"instances": list(instances)})
    return infer_call(b"/v1/models/digits:predict", body, headers, deadline)


def infer_call(target: bytes, body: bytes, headers: Headers = JSON_FIELDS, deadline: float = NEVER) -> Call:
    """A request on an inference path, as routing hands it over."""
    call = Call(b"POST", target, headers, body, deadline=Deadline(deadline))
    call.idempotent = True
    return call


class HeldUpstream:
    """Answers with `answer(call)`; while `is_held`, each call waits for `release`."""

    def __init__(self, answer: Callable[[Call], Reply] = predict, *, is_held: bool = False) -> None:
        self.answer = answer
        self.is_held = is_held
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def in_flight(self) -> int:
        """Calls that wait to be released."""
        return sum(not waiting.done() for waiting in self._waiting)

    async def exchange(self, call: Call) -> Reply:
        """The `Upstream` protocol."""
        self.calls.append(call)
        try:
            if self.is_held:
                released = asyncio.get_running_loop().create_future()
                self._waiting.append(released)
                await released
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(call)
            raise
        return self.answer(call)

    def release(self, index: int = 0) -> None:
        """Let one of the waiting calls be answered."""
        waiting = [future for future in self._waiting if not future.done()]
        waiting[index].set_result(None)

    def release_all(self) -> None:
        """Let all waiting calls be answered, and hold no more."""
        self.is_held = False
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


async def turns(count: int = 12) -> None:
    """Let everything happen that does not wait for time or release."""
    for _ in range(count):
        await asyncio.sleep(0)


ADAPTIVE = BatchPolicy()


class Stage:
    """A batcher with everything around it."""

    def __init__(self) -> None:
        self.upstream = HeldUpstream(is_held=True)
        self.clock = FakeClock()
        self.events = Recorder()
        self.batcher = Batcher(self.upstream, self.clock, self.events)
        self.tasks: list[asyncio.Task[Reply]] = []

    def submit(
        self, call: Call, policy: BatchPolicy = ADAPTIVE, subject: Subject | None = None
    ) -> asyncio.Task[Reply]:
        task = asyncio.get_running_loop().create_task(self.batcher.submit(call, subject or Subject(), policy))
        self.tasks.append(task)
        return task

    async def block(self) -> asyncio.Task[Reply]:
        """Occupy the only slot with a lone call."""
        task = self.submit(predict_call(0.5))
        await turns()
        assert self.upstream.in_flight == 1
        return task

    async def leave(self) -> None:
        """End everything that is still under way."""
        self.upstream.release_all()
        await self.batcher.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def policy(**fields: object) -> BatchPolicy:
    """A batching policy as an operator would write it."""
    return BatchPolicy.model_validate(fields)


def predictions(reply: Reply) -> object:
    """What a V1 reply predicts."""
    assert isinstance(reply.body, bytes)
    return msgspec.json.decode(reply.body)["predictions"]
