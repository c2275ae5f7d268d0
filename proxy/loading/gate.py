"""What stands between the request path and the backend when models are managed.

Called by the pipeline for every inference call of the managed upstream; it owns nothing and waits only for a
cold model. A call for a model that nobody manages passes at the cost of one dictionary lookup; one for a
model that is ready costs a microsecond more: it is counted in the model's slot, and the planner looks at it
only when the slot says so.

If the model is cold the call waits, within its deadline; it is sent; and when the backend answers, in its
dialect, that the model is not loaded after all, the model is loaded and a call whose body is at hand is sent
once more. When the model cannot be ready in time and the configuration names fallbacks, the first that is
ready answers in its place, marked ``X-Model-Fallback``; fallbacks are not chained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from proxy.errors import LoadFailed, ModelLoading, Shed
from proxy.exchange import Reply, Stream, field
from proxy.http2.grpc import http_status
from proxy.loading.asked import model_in_body, named_in, redirect
from proxy.loading.slot import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from proxy.errors import ProxyError
    from proxy.exchange import Call
    from proxy.loading.actions import Prospect
    from proxy.loading.slot import Slot
    from proxy.timing import Clock, Deadline

__all__ = ("Forward", "Gate", "Models", "Visit")

_logger = logging.getLogger(__name__)
_COLD_STATUSES = frozenset({400, 404, 503})
_ERROR_BYTES = 64 << 10

_Asked = tuple[str, tuple[int, ...]]


class Forward(Protocol):
    """How a call goes on to the backend."""

    def __call__(self, call: Call, *, is_redirected: bool = False) -> Coroutine[Any, Any, Reply]:
        """The answer to `call`, which `is_redirected` when it asks for another model than it came with."""


class Models(Protocol):
    """What the gate needs of a loader."""

    @property
    def epoch(self) -> float:
        """What an instant of the clock lacks to be one of the planner's."""

    @property
    def acts(self) -> bool:
        """Whether anybody ever has to wait for a model."""

    def find(self, model: str) -> Slot | None:
        """The managed model that requests mean by `model`; None when there is none."""

    def begun(self, slot: Slot, now: float, session: str = "") -> None:
        """A request that `slot` has counted is worth a look."""

    def is_ready(self, slot: Slot) -> bool:
        """Whether it may go on at once."""

    async def ready(self, slot: Slot, deadline: Deadline) -> None:
        """Return once it may go on; ProxyError."""

    def prospect(self, model: str, deadline: Deadline) -> Prospect | None:
        """What a request would meet; None when the model is not managed."""

    def is_lost(self, slot: Slot, status: int, body: bytes) -> bool:
        """Whether an answer says that the model is not loaded after all."""

    def finished(self, slot: Slot, now: float, run_s: float) -> None:
        """The request ends."""


class Gate:
    """Lets calls through once their model is ready.

    `fallbacks` names the models that may answer for another. `session_header` (lower case) names the field by
    which requests of one user are known; empty: none."""

    __slots__ = ("_fallbacks", "clock_now", "epoch", "models", "session_header")

    def __init__(
        self,
        models: Models,
        fallbacks: Callable[[str], tuple[str, ...]],
        clock: Clock,
        session_header: bytes = b"",
    ) -> None:
        self.models = models
        self._fallbacks = fallbacks
        self.clock_now = clock.now
        self.epoch = models.epoch
        self.session_header = session_header

    def is_cold(self, model: str) -> bool:
        """Whether a call for `model` would have to wait for it."""
        slot = self.models.find(model)
        return slot is not None and slot.state is not State.READY

    def is_open(self, model: str) -> bool:
        """Whether a call for `model` may go on at once."""
        slot = self.models.find(model)
        return slot is None or self.models.is_ready(slot)

    def visit(self, call: Call, model: str) -> Visit | None:
        """`call` passes, the gate being open to `model`: it counts from here. None: not managed."""
        slot = self.models.find(model)
        if slot is None:
            return None
        visit = Visit(self, call, slot, (model, ()))
        visit.enter()
        return visit

    def serve(
        self, call: Call, model: str, forward: Forward, model_at: tuple[int, ...] = ()
    ) -> Coroutine[Any, Any, Reply]:
        """The answer to `call`, which is for `model` (empty: its JSON says); raises `ProxyError`.

        `model_at` leads to the model's name in a gRPC message.
        """
        if not model:
            return self._serve_named(call, forward)
        slot = self.models.find(model)
        return forward(call) if slot is None else Visit(self, call, slot, (model, model_at)).follow(forward)

    async def _serve_named(self, call: Call, forward: Forward) -> Reply:
        # who is never held back need not be read first
        model = await model_in_body(call) if self.models.acts else named_in(call)
        slot = self.models.find(model)
        return await (forward(call) if slot is None else Visit(self, call, slot, (model, ())).follow(forward))

    def explain(self, call: Call, model: str) -> dict[str, object]:
        """Whether `call`, for `model` (empty: its body says), would wait, as JSON values. Changes nothing."""
        model = model or named_in(call)
        slot = self.models.find(model)
        prospect = self.models.prospect(slot.name if slot is not None else model, call.deadline)
        if prospect is None:
            return {"model": model, "managed": False}
        found: dict[str, object] = {
            "model": model,
            "managed": True,
            "state": prospect.state,
            "waits": prospect.waits,
            "ready_in_s": round(prospect.eta_s, 3),
        }
        if prospect.refusal is not None:
            found["refused"] = {"reason": prospect.refusal.reason, "why": prospect.refusal.detail}
            found["fallback"] = next((other for other, _ in self.ready_fallbacks(model)), None)
        return found

    def ready_fallbacks(self, model: str) -> Iterator[tuple[str, Slot]]:
        """The models that can answer for `model` now."""
        for other in self._fallbacks(model):
            slot = self.models.find(other)
            if other != model and slot is not None and slot.state is State.READY:
                yield other, slot

    def session(self, call: Call) -> str:
        """By what the requests of the call's user are known; empty: by nothing."""
        return (call.header(self.session_header) or b"").decode(errors="replace")


class Visit:
    """A call for a managed model: it counts from when it enters until its answer has left.

    `asked` tells for which model it came, and where that stands in it; None when no other may answer. A visit
    that has entered ends exactly once: by `is_settled_by`, `follow` or `end`.
    """

    __slots__ = ("_asked", "_began", "_call", "_gate", "_slot")

    def __init__(self, gate: Gate, call: Call, slot: Slot, asked: _Asked | None) -> None:
        self._gate = gate
        self._call = call
        self._slot = slot
        self._asked = asked
        self._began = 0.0

    def enter(self) -> bool:
        """The call comes; whether it may go on at once."""
        gate, slot = self._gate, self._slot
        self._began = now = gate.clock_now() + gate.epoch
        is_known = slot.begins(now)
        session = gate.session(self._call) if gate.session_header else ""
        if is_known and not session:
            return True
        gate.models.begun(slot, now, session)
        return gate.models.is_ready(slot)

    def end(self) -> None:
        """The call is over."""
        gate = self._gate
        now = gate.clock_now() + gate.epoch
        gate.models.finished(self._slot, now, now - self._began)

    def is_settled_by(self, reply: Reply) -> bool:
        """Whether `reply` needs no second look; the visit ends then, or with its stream."""
        call, gate, slot = self._call, self._gate, self._slot
        status = _grpc_status(reply) if call.is_grpc else reply.status
        if status in _COLD_STATUSES:
            return False
        now = gate.clock_now() + gate.epoch
        span_s = now - self._began
        if status < 400:
            slot.answered(self._began, span_s)
        if isinstance(reply.body, Stream):
            reply.body.on_close(self.end)
        else:
            gate.models.finished(slot, now, span_s)
        return True

    async def follow(self, forward: Forward, rest: Callable[[], Awaitable[Reply]] | None = None) -> Reply:
        """The answer to the call; `rest` is what is left to wait for, of one that has entered and was sent.

        Raises what `Models.ready` and `forward` raise.
        """
        if rest is None and not self.enter():
            other = await self._wait()
            if other is not None:
                return await other.stand_in(forward)
        try:
            reply = await (forward(self._call, is_redirected=self._asked is None) if rest is None else rest())
        except BaseException:
            self.end()
            raise
        return reply if self.is_settled_by(reply) else await self._look_again(forward, reply)

    async def stand_in(self, forward: Forward) -> Reply:
        """The answer of a model that was not asked."""
        reply = await self.follow(forward)
        name = self._slot.name.encode()
        reply.headers = (*reply.headers, (b"X-Model-Fallback", name), (b"Cache-Control", b"no-store"))
        return reply

    async def _wait(self) -> Visit | None:
        """Wait for the model; when it cannot be had, the visit of another that answers in its place."""
        try:
            await self._gate.models.ready(self._slot, self._call.deadline)
        except (ModelLoading, LoadFailed) as error:
            self.end()
            other = self._other(error)
            if other is None:
                raise
            return other
        except BaseException:
            self.end()
            raise
        self._began = self._gate.clock_now() + self._gate.epoch
        return None

    def _other(self, error: ProxyError) -> Visit | None:
        if self._asked is None:
            return None
        model, model_at = self._asked
        for other, slot in self._gate.ready_fallbacks(model):
            if redirect(self._call, model, other, model_at):
                _logger.debug("%s answers for %s: %s", other, model, error)
                return Visit(self._gate, self._call, slot, None)
        return None

    async def _look_again(self, forward: Forward, reply: Reply) -> Reply:
        """`reply`, or the answer once the model is loaded, if that is what was wrong."""
        call = self._call
        try:
            words = await _words(call, reply)
            status = _grpc_status(reply) if call.is_grpc else reply.status
            is_lost = self._gate.models.is_lost(self._slot, status, words)
            if is_lost and not isinstance(call.body, Stream):
                reply = await self._once_more(forward, reply)
        except BaseException:
            self.end()
            raise
        if isinstance(reply.body, Stream):
            reply.body.on_close(self.end)
        else:
            self.end()
        return reply

    async def _once_more(self, forward: Forward, reply: Reply) -> Reply:
        try:
            await self._gate.models.ready(self._slot, self._call.deadline)
        except (Shed, LoadFailed):
            return reply  # the backend's own words say it best
        return await forward(self._call, is_redirected=self._asked is None)


def _grpc_status(reply: Reply) -> int:
    """The status of an answer in HTTP's terms; of one that is still coming nothing bad is known."""
    if isinstance(reply.body, Stream):
        return reply.status
    return http_status(reply.status, reply.trailers or reply.headers)


async def _words(call: Call, reply: Reply) -> bytes:
    """What an answer says in plain words, if that is short."""
    if call.is_grpc:
        return unquote_to_bytes(field(reply.trailers or reply.headers, b"grpc-message") or b"")
    if isinstance(reply.body, Stream):
        whole = await reply.body.gather(_ERROR_BYTES)
        if whole is None:
            return b""
        reply.body = whole
    return reply.body
