"""The request path: one straight coroutine from a decoded call to its reply.

Every transport's ingress ends here and every upstream begins here. The numbered steps are the whole story
of a call; a step that is switched off costs a comparison. Whatever happens, a call is accounted for exactly
once, when its answer has left.
"""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import Struct

from proxy.caching.policy import CachePolicy
from proxy.errors import ClientGone, ProxyError
from proxy.exchange import Call, Reply, Stream
from proxy.http2.grpc import http_status
from proxy.routing.deadline import tightest
from proxy.streaming.meter import culprit, ended_by
from proxy.telemetry.ended import Ended, outcome_of_error, outcome_of_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from proxy.batching.lane import Batcher
    from proxy.batching.policy import BatchPolicy
    from proxy.caching.cache import Cache
    from proxy.exchange import Headers, Upstream
    from proxy.loading.gate import Gate
    from proxy.routing.admission import Admission
    from proxy.routing.table import Match, RouteTable
    from proxy.streaming.streams import Streams
    from proxy.timing import Clock

__all__ = ("NEEDS_MODEL", "Pipeline", "Recorder", "Service", "with_host")

_OFF = CachePolicy()
NEEDS_MODEL = frozenset({"infer", "stream"})
"""Kinds of calls that wait for their model."""


class Recorder(Protocol):
    """Who is told of every call, once, when its answer has left or it failed."""

    def record(self, call: Call, ended: Ended) -> None:
        """`call` ended as `ended` says."""


def _nothing_kept(_model: str) -> CachePolicy:
    return _OFF


class Service(NamedTuple):
    """One upstream as the pipeline sees it: where calls go alone, where to be batched, and by what rule.

    `policy` and `cache_policy` give a model's policies by its name ("" where the path names none). `cache` is
    None where nothing is kept, `gate` where no models are managed. `host` takes the place of the client's
    `Host`; None keeps it, an empty one leaves it to the connection, which knows its endpoint's name."""

    upstream: Upstream
    batcher: Batcher
    policy: Callable[[str], BatchPolicy]
    cache: Cache | None = None
    cache_policy: Callable[[str], CachePolicy] = _nothing_kept
    gate: Gate | None = None
    host: bytes | None = None


class Pipeline:
    """Routes, admits, dispatches and accounts for every call, whatever transport it came in on."""

    __slots__ = ("_admission", "_now", "_routes", "_services", "_streams", "_telemetry")

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
        self._admission = admission
        self._streams = streams
        self._telemetry = telemetry
        self._now = clock.now

    async def serve(self, call: Call) -> Reply:
        """Answer `call`; raises `ProxyError` for what Pillion answers itself.

        A reply may carry a `Stream`: the call then counts as in flight until that stream is closed.
        """
        match: Match | None = None
        call.started_at = now = self._now()
        try:
            # 1 route
            match = self._routes.match(call.method, call.target)
            route = match.route
            call.dialect = route.protocol
            call.idempotent = route.idempotent
            # 2 deadline
            call.deadline = tightest(call, now, route.timeout_s)
            # 3 admission
            self._admission.enter()
        except ProxyError as error:
            self._account(call, match, _failure(error))
            raise
        try:
            # 4 kept, or its model ready and then batched, or direct and streamed
            if isinstance(call.body, Stream) and self._streams is not None:
                self._streams.request(call.body, match.model)
            reply = await self._dispatch(call, match)
            if isinstance(reply.body, Stream) and self._streams is not None:
                self._streams.reply(call, match.model, reply, reply.body)
        except (Exception, CancelledError) as error:
            self._admission.leave()
            self._account(call, match, _failure(error))
            raise
        # 5 account, once the answer has left
        body = reply.body
        if isinstance(body, Stream):
            body.on_close(partial(self._end_stream, call, match, reply.status, (body, self._now())))
        else:
            self._admission.leave()
            status = (
                http_status(reply.status, reply.trailers or reply.headers) if call.is_grpc else reply.status
            )
            self._account(call, match, _Ending(status, len(body)))
        return reply

    def refuse(self, call: Call, error: ProxyError) -> None:
        """Account for a call that its listener answered with `error` before it could be served."""
        call.started_at = self._now()
        self._account(call, None, _failure(error))

    # The steps between here and the wait are plain functions that hand its coroutine up: awaiting it at each
    # step would cost every call a coroutine more, and two passes through it.
    def _dispatch(self, call: Call, match: Match) -> Awaitable[Reply]:
        service = self._services[match.route.upstream]
        if service.host is not None:
            call.headers = with_host(call.headers, service.host)
        if service.cache is not None:
            fetch = partial(self._send, service, match)
            return service.cache.serve(call, match, service.cache_policy(match.model), fetch)
        return self._send(service, match, call)

    def _send(self, service: Service, match: Match, call: Call) -> Awaitable[Reply]:
        if service.gate is not None and match.route.kind in NEEDS_MODEL:
            return service.gate.serve(call, match.model, partial(self._forward_to, service))
        return self._forward(service, match, call)

    def _forward_to(self, service: Service, call: Call) -> Awaitable[Reply]:
        """Forward a call that may ask for another model by now."""
        return self._forward(service, self._routes.match(call.method, call.target), call)

    def _forward(self, service: Service, match: Match, call: Call) -> Awaitable[Reply]:
        if match.route.codec is None:
            return service.upstream.exchange(call)
        policy = service.policy(match.model)
        if isinstance(call.body, Stream) and policy.mode != "off":
            return self._gather(service, match, call, call.body)
        return service.batcher.submit(call, match, policy)

    async def _gather(self, service: Service, match: Match, call: Call, body: Stream) -> Reply:
        """Collect a body that is still coming, since only a whole one can be merged."""
        policy = service.policy(match.model)
        call.claim_body()
        whole = await body.gather(policy.max_bytes)
        call.body = body if whole is None else whole
        return await service.batcher.submit(call, match, policy)

    def _end_stream(self, call: Call, match: Match, status: int, relayed: tuple[Stream, float]) -> None:
        body, head_at = relayed
        call.upstream_s += self._now() - head_at
        self._admission.leave()
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


def with_host(headers: Headers, host: bytes) -> Headers:
    """`headers` with `host` in place of the client's `Host`; empty: with none."""
    others = tuple([pair for pair in headers if pair[0].lower() != b"host"])
    return ((b"Host", host), *others) if host else others


class _Ending(Struct, frozen=True, gc=False):
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
