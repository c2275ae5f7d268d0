"""Which request means what: one table of exact paths, built once from the models that exist.

`decide` turns a complete request into an `Outcome` (see `messages`). The table makes the hot paths one
dictionary look-up; only what is not in it is looked at closer, to be refused in the words of its protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.demo import kserve_v1, open_inference, openai
from proxy.demo.faults import FaultPlan, FaultSyntaxError
from proxy.demo.messages import (
    Answer,
    ApiError,
    Inference,
    Load,
    Outcome,
    Request,
    Send,
    Step,
    Steps,
    chunk,
    error_answer,
    json_answer,
    stream_head,
)
from proxy.demo.models import Columns, ItemError, Model, PoisonedItem
from proxy.demo.repository import Repository, Slot

if TYPE_CHECKING:
    from proxy.demo.options import DemoOptions
    from proxy.demo.stats import Stats

__all__ = ("CONTROL", "Service")

Handler = Callable[[Request], Outcome]

CONTROL = b"/demo/"
"""Paths below this one steer the demo server; they are neither counted nor subject to faults."""

BULK_CHUNK = bytes(range(256)) * 256


class Service:
    """The protocols of one demo server."""

    def __init__(self, options: DemoOptions, stats: Stats, plan: FaultPlan) -> None:
        self.repository = Repository(options.models)
        self._options = options
        self._stats = stats
        self._plan = plan
        self._pace = openai.Pace(options.fixed_s, options.token_s)
        self._routes: dict[tuple[bytes, bytes], Handler] = dict(self._fixed_routes())
        for name, slot in self.repository.slots.items():
            self._routes.update(self._model_routes(name, slot))

    def decide(self, request: Request) -> Outcome:
        """What has to happen for `request`; never raises."""
        handler = self._routes.get((request.method, request.path)) or self._unlisted
        try:
            return handler(request)
        except ApiError as error:
            return error_answer(error)

    # ------------------------------------------------------------- table
    def _fixed_routes(self) -> Iterator[tuple[tuple[bytes, bytes], Handler]]:
        live = Answer(200, b'{"live":true}')
        ready = Answer(200, b'{"ready":true}')
        yield (b"GET", b"/health"), lambda _: Answer(200, b"ok", b"text/plain")
        yield (b"GET", b"/v2/health/live"), lambda _: live
        yield (b"GET", b"/v2/health/ready"), lambda _: ready
        yield (b"GET", b"/v2"), lambda _: json_answer(open_inference.SERVER)
        yield (b"POST", b"/v2/repository/index"), lambda _: json_answer(self.repository.index())
        yield (b"GET", b"/v1/models"), lambda _: self._list_models()
        yield (b"POST", b"/v1/embeddings"), self._limited(openai.embeddings)
        yield (b"POST", b"/v1/chat/completions"), lambda request: openai.chat(request, self._pace)
        yield (b"GET", b"/demo/stats"), lambda _: json_answer(self._stats.snapshot())
        yield (b"POST", b"/demo/reset"), self._reset
        yield (b"PUT", b"/demo/faults"), self._set_faults
        yield (b"POST", b"/echo"), self._echo

    def _model_routes(self, name: str, slot: Slot) -> Iterator[tuple[tuple[bytes, bytes], Handler]]:
        model, at = slot.model, name.encode()
        compute = partial(self._compute, model)
        predict = self._guarded(slot, partial(kserve_v1.predict, name, model, compute))
        infer = self._guarded(slot, partial(open_inference.infer, name, model, compute))
        limit = self._options.max_batch_size
        yield (b"GET", b"/v1/models/" + at), lambda _: kserve_v1.ready(name, is_ready=slot.state == "READY")
        yield (b"POST", b"/v1/models/%s:predict" % at), predict
        for base in (b"/v2/models/" + at, b"/v2/models/%s/versions/1" % at):
            yield (b"GET", base), lambda _: open_inference.metadata(name, model)
            yield (b"GET", base + b"/config"), lambda _: open_inference.config(name, limit)
            yield (b"GET", base + b"/ready"), lambda _: self._model_ready(name, slot)
            yield (b"POST", base + b"/infer"), infer
        control = b"/v2/repository/models/" + at
        yield (b"POST", control + b"/load"), lambda _: Load(name, json_answer({}))
        yield (b"POST", control + b"/unload"), lambda _: self._unload(name, slot)

    def _unlisted(self, request: Request) -> Outcome:
        path = request.path
        if path.startswith(b"/bytes/") and path[7:].isdigit() and request.method == b"GET":
            return Steps(_bulk(request, int(path[7:])))
        if any(key[1] == path for key in self._routes):
            raise ApiError(405, "Method Not Allowed")
        for prefix in (b"/v1/models/", b"/v2/models/", b"/v2/repository/models/"):
            if path.startswith(prefix):
                name = path[len(prefix) :].partition(b"/")[0].partition(b":")[0].decode("utf-8", "replace")
                if name not in self.repository.slots:
                    raise ApiError(404, f"Model '{name}' not found")
        raise ApiError(404, "Not Found")

    # ------------------------------------------------------------- inference
    def _guarded(self, slot: Slot, handler: Callable[[Request], Inference]) -> Handler:
        limited = self._limited(handler)

        def guarded(request: Request) -> Outcome:
            if slot.state != "READY" and not self._options.load_on_demand:
                raise ApiError(404, f"Model '{slot.spec.name}' is not loaded")
            return limited(request)

        return guarded

    def _limited(self, handler: Callable[[Request], Inference]) -> Handler:
        limit = self._options.max_batch_size
        if not limit:
            return handler

        def limited(request: Request) -> Outcome:
            inference = handler(request)
            if inference.items > limit:
                raise ApiError(400, f"inference request batch-size must be <= {limit}, got {inference.items}")
            return inference

        return limited

    def _compute(self, model: Model, columns: Columns) -> dict[str, list[Any]]:
        try:
            return model.compute(columns)
        except PoisonedItem as error:
            hint = f" at item {error.index}" if self._options.poison_hint else ""
            raise ApiError(500, f"{error}{hint}") from None
        except ItemError as error:
            raise ApiError(400, f"Failed to process element: {error.index} of the batch: {error}") from None

    # ------------------------------------------------------------- models
    def _list_models(self) -> Answer:
        """One document that is KServe V1's list and OpenAI's list at once."""
        names = [*self.repository.slots, openai.EMBEDDING_MODEL, openai.CHAT_MODEL]
        data = [
            {"id": name, "object": "model", "created": openai.CREATED, "owned_by": "pillion"}
            for name in names
        ]
        return json_answer({"models": list(self.repository.slots), "object": "list", "data": data})

    def _model_ready(self, name: str, slot: Slot) -> Answer:
        if slot.state == "READY":
            return json_answer({"name": name, "ready": True})
        raise ApiError(400, f"Model '{name}' is not ready: {slot.state}")

    def _unload(self, name: str, slot: Slot) -> Answer:
        if slot.state == "LOADING":
            raise ApiError(400, f"Model '{name}' is still loading")
        slot.state = "UNAVAILABLE"
        self._stats.unloads[name] += 1
        return json_answer({})

    # ------------------------------------------------------------- the demo's own
    def _reset(self, _: Request) -> Answer:
        self._stats.reset()
        return json_answer({})

    def _set_faults(self, request: Request) -> Answer:
        try:
            self._plan.replace(request.body.decode("latin-1"))
        except FaultSyntaxError as error:
            raise ApiError(400, str(error)) from None
        return json_answer({"faults": len(self._plan.faults)})

    def _echo(self, request: Request) -> Answer:
        """The body as it came, and in ``Demo-Seen`` the head as it came: what a proxy did to either shows."""
        head = b"; ".join(b"%s: %s" % field for field in request.headers)
        content_type = request.header(b"content-type") or b"application/octet-stream"
        return Answer(200, request.body, content_type, ((b"Demo-Seen", head),))


def _bulk(request: Request, length: int) -> Iterator[Step]:
    """`length` predictable bytes; ``?chunked`` hides the length."""
    chunked = request.query == b"chunked" and request.version != "1.0"
    yield Send(
        stream_head(
            b"application/octet-stream",
            chunked=chunked,
            keep_alive=request.keep_alive,
            length=None if chunked else length,
        )
    )
    for at in range(0, length, len(BULK_CHUNK)):
        piece = BULK_CHUNK[: length - at]
        yield Send(chunk(piece) if chunked else piece)
    if chunked:
        yield Send(chunk(b""))
