"""Walks a described request along the request path and asks every room what it would do. Sends nothing.

Owned by the application. It waits for nothing: it reads the state of a running proxy, or of one that has just
been built. The steps are those of `proxy.pipeline` in the same order; whatever a room refuses ends the walk,
as it would end the request's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.bridging.bridge import as_grpc
from proxy.config.fields import format_duration
from proxy.errors import ProxyError
from proxy.exchange import Ledger, Stream
from proxy.explain.request import as_sent
from proxy.ingress.parser import RequestParser
from proxy.pipeline import NEEDS_MODEL, with_host
from proxy.routing.deadline import tightest
from proxy.routing.naming import is_named_in_body, named
from proxy.timing import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.config.model import Config
    from proxy.exchange import Call
    from proxy.explain.request import Described
    from proxy.ingress.rules import HeadRules
    from proxy.routing.admission import Admission
    from proxy.routing.table import Match, RouteTable
    from proxy.service import Service
    from proxy.timing import Clock

__all__ = ("Explainer",)

Section = dict[str, object]

_TOLD = ("endpoint", "health", "why", "ejected")  # of an endpoint; the status document has the rest
_PEER = b"127.0.0.1"
_IDS = (b"0" * 32, b"0" * 16)


class Explainer:
    """Explains requests. `pools` gives an upstream's endpoints by its name, `state` says how far the proxy is
    (``starting``: nothing was asked or learned yet)."""

    def __init__(
        self,
        config: Config,
        routes: RouteTable,
        services: Mapping[str, Service],
        rules: HeadRules,
        *,
        admission: Admission,
        clock: Clock,
        pools: Mapping[str, Callable[[], Iterable[Mapping[str, object]]]],
        state: Callable[[], str],
    ) -> None:
        self._config = config
        self._routes = routes
        self._services = services
        self._rules = rules
        self._admission = admission
        self._clock = clock
        self._pools = pools
        self._state = state

    def explain(self, described: Described) -> Section:
        """What would be done with `described`, by section, as JSON values; ``outcome`` in words.

        Raises ValueError for what is no request.
        """
        sent = as_sent(described)
        found: Section = {"proxy": {"state": self._state(), "in_flight": self._admission.in_flight}}
        try:
            self._walk(self._read(sent), found)
        except ProxyError as error:
            found["refused"] = {"status": error.status, "reason": error.reason, "why": str(error)}
            found["outcome"] = f"answered {error.status} by Pillion: {error}"
        return found

    def _read(self, sent: bytes) -> Call:
        """The call that a listener would make of `sent`; raises `ProxyError`."""
        hop = self._rules.hop(_PEER, scheme=b"http", port=self._config.server.http.listen.port)
        parser = RequestParser(self._rules, hop, _NoSocket(), ledger=Ledger(0), new_ids=lambda: _IDS)
        arrivals = parser.feed(sent)
        if parser.fault is not None:
            raise parser.fault
        call = arrivals[0].call
        call.peer = _PEER
        call.is_grpc = (call.header(b"content-type") or b"").startswith(b"application/grpc")
        return call

    def _walk(self, call: Call, found: Section) -> None:
        now = self._clock.now()
        match = self._routes.match(call.method, call.target)
        if is_named_in_body(call, match) and not isinstance(call.body, Stream):
            match = named(match, call.body)
        route = match.route
        found["route"] = self._route(match)
        call.dialect, call.idempotent = route.dialect, route.idempotent
        call.deadline = tightest(call, now, route.timeout_s)
        found["deadline"] = self._deadline(call, match, now)
        self._admission.enter()
        self._admission.leave()
        service = self._services[route.upstream]
        if service.host is not None:
            call.headers = with_host(call.headers, service.host)
        endpoints = [{name: state[name] for name in _TOLD} for state in self._pools[route.upstream]()]
        found["upstream"] = {"name": route.upstream, "endpoints": endpoints}
        found["cache"] = cache = _cache(service, call, match)
        found["loading"] = loading = _loading(service, call, match)
        found["batch"] = batch = _batch(service, call, match)
        found["outcome"] = _outcome(cache, loading, batch)

    def _route(self, match: Match) -> Section:
        route = match.route
        return {
            "name": route.name,
            "matched": list(
                dict.fromkeys(f"{' '.join(rule.methods) or 'any'} {rule.path}" for rule in route.rules)
            ),
            "tried_before": self._routes.routes.index(route),
            "protocol": route.protocol,
            "kind": route.kind,
            "idempotent": route.idempotent,
            "model": match.model,
            "version": match.version,
            "settings_of": list(self._config.globs_of(match.model)),
        }

    def _deadline(self, call: Call, match: Match, now: float) -> Section:
        route_s, timeouts = match.route.timeout_s, self._config.upstreams[match.route.upstream].timeouts
        span_s = None if call.deadline == NEVER else round(call.deadline - now, 6)
        by = "nobody" if span_s is None else "route" if span_s >= round(route_s, 6) else "client"
        return {
            "span_s": span_s,
            "set_by": by,
            "first_byte_s": timeouts.first_byte,
            "silence_s": timeouts.idle,
        }


class _NoSocket:
    """The flow of a request that is there as a whole."""

    def pause(self) -> None:
        """Nothing to pause."""

    def resume(self) -> None:
        """Nothing to resume."""

    def abandon(self) -> None:
        """Nothing to close."""


def _cache(service: Service, call: Call, match: Match) -> Section:
    if service.cache is None:
        return {"looked_up": False, "why": "off"}
    return service.cache.explain(call, match, service.cache_policy(match.model))


def _loading(service: Service, call: Call, match: Match) -> Section:
    if service.gate is None or match.route.kind not in NEEDS_MODEL:
        return {"managed": False}
    return service.gate.explain(call, match.model)


def _batch(service: Service, call: Call, match: Match) -> Section:
    policy, body = service.policy(match.model), call.body
    if match.route.codec is None:
        return {"merged": False, "why": "no_codec"}
    if service.has_bridge and not call.is_grpc and not isinstance(body, Stream):
        _, call = as_grpc(call, body)
    if policy.mode != "off" and not isinstance(body, Stream) and len(body) > policy.max_bytes:
        return {"merged": False, "why": "streamed_body"}
    return service.batcher.explain(call, match, policy)


def _outcome(cache: Section, loading: Section, batch: Section) -> str:
    """What would come of it, in words."""
    answered = {
        "hit": "answered from memory",
        "stale": "answered from memory, stale, and renewed afterwards",
        "collapsed": "given the answer to an equal request that is on its way",
    }.get(str(cache.get("verdict")))
    if answered is not None:
        return answered
    refused, fallback = loading.get("refused"), loading.get("fallback")
    if isinstance(refused, dict) and fallback is None:
        return f"refused: model {loading['model']} cannot be ready in time ({refused['reason']})"
    way = "batched with requests of the same key" if batch["merged"] else f"forwarded alone: {batch['why']}"
    if fallback is not None:
        return f"redirected to model {fallback}"
    if loading.get("waits"):
        wait_s = loading["ready_in_s"]
        assert isinstance(wait_s, float)  # noqa: S101  a number of seconds, among JSON values
        return f"held for about {format_duration(wait_s)} until its model is loaded, then {way}"
    return way
