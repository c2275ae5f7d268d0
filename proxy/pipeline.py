"""The request path: one straight coroutine from a decoded call to its reply.

Every transport's ingress ends here and every upstream begins here. The numbered steps are the whole story
of a call; a step that is switched off costs a comparison. Whatever happens, a call is accounted for exactly
once, when its answer has left.
"""

from __future__ import annotations

from asyncio import CancelledError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from proxy.bridging.bridge import bridge
from proxy.errors import ClientGone, ProxyError
from proxy.exchange import Call, Reply, Stream
from proxy.gathering import gather_body, name_model
from proxy.http2.grpc import http_status
from proxy.passage import Passage
from proxy.protobuf.framing import PREFIX
from proxy.protobuf.message import peek
from proxy.routing.deadline import tightest
from proxy.routing.naming import is_named_in_body
from proxy.routing.table import Match
from proxy.streaming.meter import culprit, ended_by
from proxy.telemetry.ended import Ended, outcome_of_error, outcome_of_status

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from proxy.batching.policy import BatchPolicy
    from proxy.exchange import Begun, Headers, Rest, Taker
    from proxy.loading.gate import Visit
    from proxy.routing.admission import Admission
    from proxy.routing.table import RouteTable
    from proxy.service import Service
    from proxy.streaming.streams import Streams
    from proxy.timing import Clock

__all__ = ("NEEDS_MODEL", "Pipeline", "Recorder", "with_host")

_MOST_WAYS: Final = 512
_LONGEST_NAME: Final = 256
NEEDS_MODEL: Final = frozenset({"infer", "stream"})
"""Kinds of calls that wait for their model."""


class Recorder(Protocol):
    """Who is told of every call, once, when its answer has left or it failed."""

    def record(self, call: Call, ended: Ended) -> None:
        """`call` ended as `ended` says."""


class _Way:
    """The way of gRPC calls of one kind: `upstream` takes them without a task (None: they need one), once
    the `gate` is open to their model, if there is one."""

    __slots__ = ("gate", "match", "upstream")

    def __init__(self, match: Match, service: Service) -> None:
        route = match.route
        waits_for_others = route.codec is not None and service.policy(match.model).mode != "off"
        is_bare = service.cache is None and service.host is None and not waits_for_others
        self.match = match
        self.upstream = service.prompt if is_bare else None
        self.gate = service.gate if route.kind in NEEDS_MODEL else None


class Pipeline:
    """Routes, admits, dispatches and accounts for every call, whatever transport it came in on."""

    __slots__ = ("_admission", "_now", "_routes", "_services", "_streams", "_telemetry", "_ways")

    def __init__(
        self,
        routes: RouteTable,
        services: Mapping[str, Service],
        *,
        admission: Admission,
        telemetry: Recorder,
        clock: Clock,
        streams: Streams | None = None,
    ) -> None:
        self._routes = routes
        self._services = services
        self._ways: dict[tuple[Match, bytes], _Way] = {}  # by route and the model's name in the message
        self._admission = admission
        self._streams = streams
        self._telemetry = telemetry
        self._now = clock.now

    async def serve(self, call: Call) -> Reply:
        """Answer `call`; raises `ProxyError` for what Pillion answers itself.

        A reply may carry a `Stream`: the call then counts as in flight until that stream is closed.
        """
        match = self._enter(call)
        try:
            if is_named_in_body(call, match):
                match = await self._named(call, match)
            # 4 kept, or its model ready and then batched, or direct and streamed
            if isinstance(call.body, Stream) and self._streams is not None:
                self._streams.request(call.body, match.model)
            service = self._services[match.route.upstream]
            if service.host is not None:
                call.headers = with_host(call.headers, service.host)
            streams = self._streams
            if streams is not None and self._may_begin_early(streams, service, call, match):
                reply = await streams.begin_early(call, match.model, self._dispatch(service, call, match))
            else:
                reply = self._kept(service, call, match) or await self._dispatch(service, call, match)
                self._open(call, match, reply)
        except (Exception, CancelledError) as error:
            self.lost(call, match, error)
            raise
        # 5 account, once the answer has left
        if call.is_seen_off and not isinstance(reply.body, Stream):
            call.on_left = partial(self.answered, call, match, reply)
        else:
            self.answered(call, match, reply)
        return reply

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send `call` on its way without a task, where its body is whole and nothing has to be waited for.

        None when it is to be served by `serve` instead; nothing has happened then. Raises `ProxyError` for
        what Pillion answers itself.
        """
        body = call.body
        if not call.is_grpc or isinstance(body, Stream):
            return None
        try:
            match = self._routes.match(call.method, call.target)
        except ProxyError:
            return None
        name = peek(body, PREFIX, match.route.model_at) if match.route.model_at else b""
        way = self._ways.get((match, name)) or self._find_way(match, name)
        match, upstream, gate = way.match, way.upstream, way.gate
        if upstream is None or (gate is not None and not gate.is_open(match.model)):
            return None
        self._enter(call, match)
        passage = Passage(self, call, match, taker)
        passage.begun = upstream.begin(call, passage)
        if passage.begun is None:
            self._admission.retract(call.identity)
            return None
        if gate is not None:
            passage.visit = gate.visit(call, match.model)
        return passage

    async def _named(self, call: Call, match: Match) -> Match:
        """`match` with the model that the body names: one object for calls of one kind, where it can be."""
        if call.is_grpc and isinstance(call.body, bytes):
            name = peek(call.body, PREFIX, match.route.model_at)
            return (self._ways.get((match, name)) or self._find_way(match, name)).match
        return await name_model(call, match)

    def _find_way(self, match: Match, name: bytes) -> _Way:
        route = match.route
        named = Match(route, name.decode(errors="replace")) if route.model_at else match
        way = _Way(named, self._services[route.upstream])
        if len(name) <= _LONGEST_NAME:  # clients choose the names
            if len(self._ways) >= _MOST_WAYS:
                self._ways.clear()
            self._ways[match, name] = way
        return way

    def _enter(self, call: Call, match: Match | None = None) -> Match:
        """Steps 1 to 3: the call's route, its deadline, its admission."""
        call.started_at = now = self._now()
        try:
            # 1 route
            match = match or self._routes.match(call.method, call.target)
            route = match.route
            call.dialect = route.dialect
            call.idempotent = route.idempotent
            # 2 deadline
            call.deadline = tightest(call, now, route.timeout_s)
            # 3 admission
            self._admission.enter(call.identity, now)
        except ProxyError as error:
            self._account(call, match, _failure(error))
            raise
        return match

    # ------------------------------------------------------------- for calls without a task
    async def finish(self, call: Call, match: Match, rest: Rest, visit: Visit | None) -> Reply:
        """Wait for `rest`, the outcome of a call that was begun, as `serve` waits for its own."""
        try:
            if visit is None:
                reply = await rest()
            else:
                service = self._services[match.route.upstream]
                reply = await visit.follow(partial(self._forward_to, service, match), rest)
            self._open(call, match, reply)
        except (Exception, CancelledError) as error:
            self.lost(call, match, error)
            raise
        self.answered(call, match, reply)
        return reply

    def answered(self, call: Call, match: Match, reply: Reply) -> None:
        """Account for an admitted call once `reply` has left."""
        body = reply.body
        if isinstance(body, Stream):
            body.on_close(partial(self._end_stream, call, match, reply.status, (body, self._now())))
            return
        self._admission.leave(call.identity)
        is_grpc, status, route = call.is_grpc, reply.status, match.route
        if is_grpc:
            status = http_status(status, reply.trailers or reply.headers)
        duration_s = self._now() - call.started_at
        outcome = outcome_of_status(status)
        protocol = "grpc" if is_grpc else "http"
        ended = Ended(route.name, protocol, match.model, outcome, status, duration_s, len(body))
        self._telemetry.record(call, ended)

    def lost(self, call: Call, match: Match, error: BaseException) -> None:
        """Account for an admitted call that got no answer."""
        self._admission.leave(call.identity)
        self._account(call, match, _failure(error))

    def refuse(self, call: Call, error: ProxyError) -> None:
        """Account for a call that its listener answers with `error` before it could be served; `call.dialect`
        then says in whose words."""
        call.started_at = self._now()
        with suppress(ProxyError):
            call.dialect = self._routes.match(call.method, call.target).route.dialect
        self._account(call, None, _failure(error))

    def _open(self, call: Call, match: Match, reply: Reply) -> None:
        if isinstance(reply.body, Stream) and self._streams is not None:
            self._streams.reply(call, match.model, reply, reply.body)

    @staticmethod
    def _kept(service: Service, call: Call, match: Match) -> Reply | None:
        """The answer, if it is kept and at hand."""
        if service.cache is None:
            return None
        return service.cache.kept(call, match, service.cache_policy(match.model))

    @staticmethod
    def _may_begin_early(streams: Streams, service: Service, call: Call, match: Match) -> bool:
        """Whether the client may hear of an event stream before its model is there to make one."""
        if match.route.kind != "stream" or call.is_grpc:
            return False
        gate = service.gate
        return gate is not None and gate.is_cold(match.model) and streams.may_begin_early(call, match.model)

    # The steps between here and the wait are plain functions that hand its coroutine up: awaiting it at each
    # step would cost every call a coroutine more, and two passes through it.
    def _dispatch(self, service: Service, call: Call, match: Match) -> Coroutine[Any, Any, Reply]:
        if service.cache is not None:
            fetch = partial(self._send, service, match)
            return service.cache.serve(call, match, service.cache_policy(match.model), fetch)
        return self._send(service, match, call)

    def _send(self, service: Service, match: Match, call: Call) -> Coroutine[Any, Any, Reply]:
        if service.gate is not None and match.route.kind in NEEDS_MODEL:
            forward = partial(self._forward_to, service, match)
            return service.gate.serve(call, match.model, forward, match.route.model_at)
        return self._forward(service, match, call)

    def _forward_to(
        self, service: Service, match: Match, call: Call, *, is_redirected: bool = False
    ) -> Coroutine[Any, Any, Reply]:
        """Forward a call, which asks for another model by now when it `is_redirected`."""
        if not is_redirected:
            return self._forward(service, match, call)
        match = self._routes.match(call.method, call.target)
        if is_named_in_body(call, match):
            return self._forward_named(service, match, call)
        return self._forward(service, match, call)

    async def _forward_named(self, service: Service, match: Match, call: Call) -> Reply:
        return await self._forward(service, await name_model(call, match), call)

    @staticmethod
    def _forward(service: Service, match: Match, call: Call) -> Coroutine[Any, Any, Reply]:
        if service.has_bridge and not call.is_grpc:
            return bridge(call, partial(_submit, service, match))
        return _submit(service, match, call)

    def _end_stream(self, call: Call, match: Match, status: int, relayed: tuple[Stream, float]) -> None:
        body, head_at = relayed
        call.upstream_s += self._now() - head_at
        self._admission.leave(call.identity)
        if call.is_grpc:
            status = http_status(status, body.trailers)
        error = body.error
        if error is None and not body.is_complete:
            error = body.left_because or ClientGone()
        if isinstance(error, ClientGone):
            status = error.status
        self._account(call, match, _Ending(status, body.delivered, error, ended_by(body)))

    def _account(self, call: Call, match: Match | None, ending: _Ending) -> None:
        error = ending.error
        self._telemetry.record(
            call,
            Ended(
                route=match.route.name if match is not None else "",
                protocol="grpc" if call.is_grpc else "http",
                model=match.model if match is not None else "",
                outcome=outcome_of_status(ending.status) if error is None else outcome_of_error(error),
                status=ending.status,
                duration_s=self._now() - call.started_at,
                bytes_out=ending.bytes_out,
                reason=error.reason if error is not None else "",
                ended_by=ending.ended_by,
            ),
        )


def _submit(service: Service, match: Match, call: Call) -> Coroutine[Any, Any, Reply]:
    route = match.route
    if route.codec is None or (route.model_at and not call.is_grpc):
        return service.upstream.exchange(call)
    policy = service.policy(match.model)
    if isinstance(call.body, Stream) and policy.mode != "off":
        return _gather_and_submit(service, match, call, policy)
    return service.batcher.submit(call, match, policy)


async def _gather_and_submit(service: Service, match: Match, call: Call, policy: BatchPolicy) -> Reply:
    """Only a whole body can be merged."""
    await gather_body(call, policy.max_bytes)
    return await service.batcher.submit(call, match, policy)


def with_host(headers: Headers, host: bytes) -> Headers:
    """`headers` with `host` in place of the client's `Host`; empty: with none."""
    others = tuple([pair for pair in headers if pair[0].lower() != b"host"])
    return ((b"Host", host), *others) if host else others


class _Ending(NamedTuple):
    """How a call ended: what the client was told, and whose words they were."""

    status: int
    bytes_out: int = 0
    error: ProxyError | None = None
    ended_by: str = ""


def _failure(error: BaseException) -> _Ending:
    if isinstance(error, CancelledError):
        error = ClientGone()
    elif not isinstance(error, ProxyError):
        error = ProxyError()
    return _Ending(error.status, 0, error, culprit(error))
