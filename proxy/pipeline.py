"""The request path: one straight coroutine from a decoded call to its reply.

Every transport's ingress ends here and every upstream begins here. The numbered steps are the whole story
of a call; a step that is switched off costs a comparison. Whatever happens, a call is accounted for exactly
once, when its answer has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.bridging.bridge import bridge
from proxy.caching.policy import CachePolicy
from proxy.errors import ClientGone, DeadlineExceeded, ProxyError
from proxy.exchange import Call, Reply, Stream
from proxy.http2.grpc import http_status
from proxy.protobuf.framing import PREFIX, size_of
from proxy.protobuf.message import peek
from proxy.routing.deadline import tightest
from proxy.routing.table import Match
from proxy.streaming.meter import culprit, ended_by
from proxy.telemetry.ended import Ended, outcome_of_error, outcome_of_status
from proxy.timing import NEVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from proxy.batching.lane import Batcher
    from proxy.batching.policy import BatchPolicy
    from proxy.caching.cache import Cache
    from proxy.exchange import Headers, Upstream
    from proxy.loading.gate import Gate
    from proxy.routing.admission import Admission
    from proxy.routing.table import RouteTable
    from proxy.streaming.streams import Streams
    from proxy.timing import Clock

__all__ = ("Pipeline", "Recorder", "Service")

_OFF = CachePolicy()
_NEEDS_MODEL = frozenset({"infer", "stream"})


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
    `Host`; None keeps it, an empty one leaves it to the connection, which knows its endpoint's name.
    `has_bridge` says that REST calls go to this upstream as gRPC ones."""

    upstream: Upstream
    batcher: Batcher
    policy: Callable[[str], BatchPolicy]
    cache: Cache | None = None
    cache_policy: Callable[[str], CachePolicy] = _nothing_kept
    gate: Gate | None = None
    host: bytes | None = None
    has_bridge: bool = False


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
            if route.model_at and call.is_grpc:
                match = await _named(call, match)
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

    async def _dispatch(self, call: Call, match: Match) -> Reply:
        service = self._services[match.route.upstream]
        if service.host is not None:
            call.headers = _with_host(call.headers, service.host)
        if service.cache is not None:
            fetch = partial(self._send, service, match)
            return await service.cache.serve(call, match, service.cache_policy(match.model), fetch)
        return await self._send(service, match, call)

    async def _send(self, service: Service, match: Match, call: Call) -> Reply:
        if service.gate is not None and match.route.kind in _NEEDS_MODEL:
            return await service.gate.serve(
                call, match.model, partial(self._forward_to, service), match.route.model_at
            )
        return await self._forward(service, match, call)

    async def _forward_to(self, service: Service, call: Call) -> Reply:
        """Forward a call that may ask for another model by now."""
        match = self._routes.match(call.method, call.target)
        if match.route.model_at and call.is_grpc:
            match = await _named(call, match)
        return await self._forward(service, match, call)

    @staticmethod
    def _forward(service: Service, match: Match, call: Call) -> Coroutine[None, None, Reply]:
        """Not a coroutine around another one: this is on every call's path."""
        if service.has_bridge and not call.is_grpc:
            return bridge(call, partial(_submit, service, match))
        return _submit(service, match, call)

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


async def _submit(service: Service, match: Match, call: Call) -> Reply:
    route = match.route
    if route.codec is None or (route.model_at and not call.is_grpc):
        return await service.upstream.exchange(call)
    policy = service.policy(match.model)
    if isinstance(call.body, Stream) and policy.mode != "off":
        await _gather(call, call.body, policy.max_bytes)
    return await service.batcher.submit(call, match, policy)


async def _named(call: Call, match: Match) -> Match:
    """`match` with the model that the gRPC message of `call` names.

    A message that is still arriving is looked at as far as it has come, and left where it is.
    """
    start = await _start(call, call.body) if isinstance(call.body, Stream) else call.body
    return Match(match.route, peek(start, PREFIX, match.route.model_at).decode(errors="replace"))


async def _start(call: Call, body: Stream) -> bytes:
    """What has come of the body of `call`, once there is anything; it is left where it is."""
    async with _in_time(call):
        start = await body.read()
    if start:
        body.unread(start)
    return start


async def _gather(call: Call, body: Stream, most: int) -> None:
    """Have the body of `call` at hand, if it has no more than `most` bytes.

    A gRPC call that goes on after one message is no unary one, and is not waited for.
    """
    call.claim_body()
    if call.is_grpc:
        most = min(most, size_of(await _start(call, body)) or most)
    async with _in_time(call):
        whole = await body.gather(most)
    if whole is not None:
        call.body = whole


@contextlib.asynccontextmanager
async def _in_time(call: Call) -> AsyncIterator[None]:
    """Raises `DeadlineExceeded` when `call` takes too long to arrive."""
    try:
        async with asyncio.timeout_at(None if call.deadline == NEVER else call.deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed while the request was arriving") from None


def _with_host(headers: Headers, host: bytes) -> Headers:
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
