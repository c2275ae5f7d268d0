"""What stands between the request path and the backend when models are managed.

Called by the pipeline for every inference call of the managed upstream; it owns nothing and waits only for a
cold model. A call for a model that nobody manages passes at the cost of one dictionary lookup.

For the others: the call is observed; if its model is cold it waits, within its deadline; it is sent; and when
the backend answers, in its dialect, that the model is not loaded after all, the model is loaded and a call
whose body is at hand is sent once more. When the model cannot be ready in time and the configuration names
fallbacks, the first that is ready answers in its place, marked ``X-Model-Fallback``; fallbacks are not
chained."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from proxy.errors import LoadFailed, ModelLoading, Shed
from proxy.exchange import Reply, Stream, field
from proxy.http2.grpc import http_status
from proxy.protobuf.framing import frame, message_at
from proxy.protobuf.message import replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.exchange import Call
    from proxy.loading.actions import Prospect
    from proxy.timing import Clock, Deadline

    Forward = Callable[[Call], Awaitable[Reply]]

__all__ = ("Gate", "Models", "Visit")

_logger = logging.getLogger(__name__)
_COLD_STATUSES = frozenset({400, 404, 503})
_ERROR_BYTES = 64 << 10
_BODY_BYTES = 8 << 20


class Models(Protocol):
    """What the gate needs of a loader."""

    def find(self, model: str) -> str:
        """The managed model that requests mean by `model`; empty when there is none."""

    def is_loaded(self, model: str) -> bool:
        """Whether `model` is known to be ready."""

    def observe(self, model: str, session: str = "") -> None:
        """A request starts."""

    def is_ready(self, model: str) -> bool:
        """Whether it may go on at once."""

    async def ready(self, model: str, deadline: Deadline) -> None:
        """Return once it may go on; ProxyError."""

    def prospect(self, model: str, deadline: Deadline) -> Prospect | None:
        """What a request would meet; None when the model is not managed."""

    def answered(self, model: str, status: int, body: bytes, span_s: float) -> bool:
        """The backend answered; True when it should be asked once more."""

    def finished(self, model: str, run_s: float) -> None:
        """The request ends."""


class _Named(msgspec.Struct):
    model: str = ""


_decode_name = msgspec.json.Decoder(_Named).decode


class Gate:
    """Lets calls through once their model is ready.

    `fallbacks` names the models that may answer for another. `session_header` (lower case) names the field by
    which requests of one user are known; empty: none."""

    __slots__ = ("_fallbacks", "_models", "_now", "_session_header")

    def __init__(
        self,
        models: Models,
        fallbacks: Callable[[str], tuple[str, ...]],
        clock: Clock,
        session_header: bytes = b"",
    ) -> None:
        self._models = models
        self._fallbacks = fallbacks
        self._now = clock.now
        self._session_header = session_header

    def is_cold(self, model: str) -> bool:
        """Whether a call for `model` would have to wait for it."""
        known = self._models.find(model)
        return bool(known) and not self._models.is_loaded(known)

    def is_open(self, model: str) -> bool:
        """Whether a call for `model` may go on at once."""
        known = self._models.find(model)
        return not known or self._models.is_ready(known)

    def visit(self, call: Call, model: str) -> Visit | None:
        """`call` passes, the gate being open to `model`: it is observed from here. None: not managed."""
        known = self._models.find(model)
        if not known:
            return None
        self._models.observe(known, self._session(call))
        return Visit(self._models, call, known, self._now)

    async def serve(self, call: Call, model: str, forward: Forward, model_at: tuple[int, ...] = ()) -> Reply:
        """The answer to `call`, which is for `model` (empty: its JSON says); raises `ProxyError`.

        `model_at` leads to the model's name in a gRPC message.
        """
        models = self._models
        if not model:
            model = await _model_in_body(call)
        known = models.find(model)
        if not known:
            return await forward(call)
        try:
            return await self._serve_by(call, known, forward)
        except (ModelLoading, LoadFailed) as error:
            other = self._fallback(call, model, model_at)
            if other is None:
                raise
            _logger.debug("%s answers for %s: %s", other, model, error)
        reply = await self._serve_by(call, other, forward)
        marks = ((b"X-Model-Fallback", other.encode()), (b"Cache-Control", b"no-store"))
        reply.headers = (*reply.headers, *marks)
        return reply

    def explain(self, call: Call, model: str) -> dict[str, object]:
        """Whether `call`, for `model` (empty: its body says), would wait, as JSON values. Changes nothing."""
        model = model or _named_in(call)
        prospect = self._models.prospect(self._models.find(model) or model, call.deadline)
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
            ready = [other for other in self._fallbacks(model) if self._models.is_loaded(other)]
            found["refused"] = {"reason": prospect.refusal.reason, "why": prospect.refusal.detail}
            found["fallback"] = next((other for other in ready if other != model), None)
        return found

    async def _serve_by(self, call: Call, model: str, forward: Forward) -> Reply:
        """The answer of a managed model to `call`, which is observed from here until the answer has left."""
        models = self._models
        models.observe(model, self._session(call))
        visit = Visit(models, call, model, self._now)
        try:
            if not models.is_ready(model):
                await models.ready(model, call.deadline)
                visit.began = self._now()
        except BaseException:
            visit.end()
            raise
        return await visit.follow(forward, partial(forward, call))

    def _fallback(self, call: Call, model: str, model_at: tuple[int, ...]) -> str | None:
        """The model that `call` was redirected to; None when none is ready."""
        for other in self._fallbacks(model):
            if other != model and self._models.is_loaded(other) and _redirect(call, model, other, model_at):
                return other
        return None

    def _session(self, call: Call) -> str:
        if not self._session_header:
            return ""
        return (call.header(self._session_header) or b"").decode(errors="replace")


class Visit:
    """A call that was observed and let through to a managed model; `began` is when the backend got it.

    It ends exactly once: by `is_settled_by`, `follow` or `end`.
    """

    __slots__ = ("_call", "_model", "_models", "_now", "began")

    def __init__(self, models: Models, call: Call, model: str, now: Callable[[], float]) -> None:
        self._models = models
        self._call = call
        self._model = model
        self._now = now
        self.began = now()

    def is_settled_by(self, reply: Reply) -> bool:
        """Whether `reply`, which is whole, needs no second look; the visit has ended then."""
        status = _status(self._call, reply)
        if status in _COLD_STATUSES:
            return False
        self._models.answered(self._model, status, b"", self._now() - self.began)
        self.end()
        return True

    async def follow(self, forward: Forward, answer: Callable[[], Awaitable[Reply]]) -> Reply:
        """Wait for the `answer`; have the model loaded and `forward` the call once more if it was not
        there."""
        try:
            reply = await answer()
            status = _status(self._call, reply)
            if status in _COLD_STATUSES:
                reply = await self._unless_cold(status, forward, reply)
            else:
                self._models.answered(self._model, status, b"", self._now() - self.began)
        except BaseException:
            self.end()
            raise
        if isinstance(reply.body, Stream):
            reply.body.on_close(self.end)
        else:
            self.end()
        return reply

    def end(self) -> None:
        """The call is over."""
        self._models.finished(self._model, self._now() - self.began)

    async def _unless_cold(self, status: int, forward: Forward, reply: Reply) -> Reply:
        """`reply`, or another one once the model is loaded, if that is what was wrong."""
        call = self._call
        is_cold = self._models.answered(self._model, status, await _words(call, reply), 0.0)
        if not is_cold or isinstance(call.body, Stream):
            return reply
        try:
            await self._models.ready(self._model, call.deadline)
        except (Shed, LoadFailed):
            return reply  # the backend's own words say it best
        return await forward(call)


def _status(call: Call, reply: Reply) -> int:
    """The status of an answer in HTTP's terms; of one in gRPC that is still coming nothing bad is known."""
    if not call.is_grpc or isinstance(reply.body, Stream):
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


async def _model_in_body(call: Call) -> str:
    """The model that a JSON body (OpenAI, Ollama) names; empty when it names none."""
    if call.is_grpc:
        return ""  # no JSON, and a two-way stream must not be waited for
    if isinstance(call.body, Stream):
        call.claim_body()
        whole = await call.body.gather(_BODY_BYTES)
        if whole is None:
            return ""
        call.body = whole
    return _named_in(call)


def _named_in(call: Call) -> str:
    """The model that a JSON body in hand names; empty when none does."""
    if call.is_grpc or isinstance(call.body, Stream):
        return ""
    try:
        return _decode_name(call.body).model
    except msgspec.DecodeError:
        return ""


def _redirect(call: Call, model: str, other: str, model_at: tuple[int, ...]) -> bool:
    """Make `call` ask for `other` in place of `model`; False when it cannot be done."""
    if call.is_grpc:
        return _redirect_message(call, other, model_at)
    path, mark, query = call.target.partition(b"?")
    segments = path.split(b"/")
    for index, segment in enumerate(segments):
        name, colon, verb = segment.partition(b":")
        if unquote(name.decode("latin-1")) == model:
            segments[index] = quote(other, safe="").encode() + colon + verb
            call.target = b"/".join(segments) + mark + query
            return True
    if isinstance(call.body, Stream):
        return False
    try:
        document: Any = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    document["model"] = other
    call.body = msgspec.json.encode(document)
    return True


def _redirect_message(call: Call, other: str, model_at: tuple[int, ...]) -> bool:
    """The same for a gRPC message."""
    if isinstance(call.body, Stream) or not model_at:
        return False
    try:
        call.body = frame(replaced(call.body[message_at(call.body) :], model_at, other.encode()))
    except ValueError:
        return False
    return True
