"""The composition root: builds every object of a running proxy from its configuration, and joins the rooms.

The only module that knows all rooms; nothing imports it but the process that serves and the command line.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.admin.cache import cache_routes
from proxy.admin.explain import explain_route
from proxy.admin.models import model_routes
from proxy.admin.readiness import Check
from proxy.admin.server import AdminServer
from proxy.assembly import UpstreamComponent, make_cache, make_doors, make_l4
from proxy.batching.declared import ask_batch_limit
from proxy.batching.lane import Batcher
from proxy.config.dump import dump
from proxy.config.presets import is_bridged, routes_of
from proxy.exchange import Ledger
from proxy.explain.explainer import Explainer
from proxy.explain.request import Described
from proxy.ingress.http2 import Http2Server
from proxy.ingress.server import HttpServer
from proxy.lifecycle import Lifecycle, State
from proxy.loading.control.connect import Connector
from proxy.loading.gate import Gate
from proxy.loading.gauges import samplers
from proxy.loading.history import History
from proxy.loading.loader import Loader
from proxy.pipeline import Pipeline
from proxy.routing.admission import Admission
from proxy.routing.quotas import Quotas
from proxy.routing.table import RouteTable
from proxy.service import Service
from proxy.streaming.streams import Streams
from proxy.telemetry.status import StatusReport
from proxy.telemetry.telemetry import Telemetry
from proxy.timing import LoopClock
from proxy.wiring import (
    batch_policy,
    by_model,
    cache_policy,
    head_rules,
    host_of,
    managed_upstream,
    named_models,
    stream_policy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.caching.cache import Cache
    from proxy.config.load import Loaded
    from proxy.ingress.l4 import L4Server
    from proxy.ingress.rules import HeadRules
    from proxy.lifecycle import Component
    from proxy.pooling.transports import Transports
    from proxy.timing import Clock

__all__ = ("App", "build", "explain")


class App:
    """One proxy: its lifecycle and its components in the order in which they start."""

    def __init__(
        self,
        life: Lifecycle,
        components: list[Component],
        http: HttpServer,
        admin: AdminServer,
        grpc: Http2Server | None,
        *,
        l4: list[L4Server],
    ) -> None:
        self.life = life
        self.http = http
        self.grpc = grpc
        self.l4 = l4
        self.admin = admin
        self._components = components

    async def run(self) -> None:
        """Serve until the lifecycle is asked to leave; raises OSError when a listener cannot be bound."""
        await self.life.run(self._components)


def build(loaded: Loaded, clock: Clock, wall: Callable[[], float]) -> App:
    """Wire a proxy; nothing is bound or connected yet. Call it inside a running loop.

    `wall` gives seconds since the epoch, for log lines only.
    """
    return _Parts(loaded, clock, wall).app()


class _Parts:
    """What a proxy is made of; each part is made once, when the first other part asks for it."""

    def __init__(self, loaded: Loaded, clock: Clock, wall: Callable[[], float]) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.clock = clock
        self.wall = wall

    def app(self) -> App:
        """The whole; probes are answered first and last, clients are let in last."""
        components: list[Component] = [self.telemetry, self.admin]
        if self.cache is not None:
            components.append(self.cache)
        components += [UpstreamComponent(*parts) for parts in self.upstreams.values()]
        if self.loader is not None:
            components.append(self.loader)
        components.append(self.http)
        if self.grpc is not None:
            components.append(self.grpc)
        components += self.l4
        app = App(self.life, components, self.http, self.admin, self.grpc, l4=self.l4)
        self.life.on_change(partial(_announce, app, self.status))
        return app

    # ------------------------------------------------------------- what watches
    @cached_property
    def life(self) -> Lifecycle:
        return Lifecycle(self.clock, self.config.server.drain)

    @cached_property
    def telemetry(self) -> Telemetry:
        policy, models = self.config.observe.access_log, named_models(self.config)
        return Telemetry(self.clock, self.wall, policy, version=__version__, models=models)

    @cached_property
    def status(self) -> StatusReport:
        fingerprint = hashlib.sha256(dump(self.loaded).encode()).hexdigest()[:12]
        status = StatusReport(
            self.telemetry,
            self.clock.now,
            lambda: self.life.state,
            version=__version__,
            config_hash=fingerprint,
        )
        for name, (cluster, batcher) in self.upstreams.items():
            status.add_pool(name, cluster.snapshot)
            status.add_lanes(name, batcher.snapshot)
        if self.loader is not None:
            status.set_loading(self.loader.snapshot)
        return status

    @cached_property
    def admin(self) -> AdminServer:
        checks = [
            Check(f"upstream {name}", cluster.readiness) for name, (cluster, _) in self.upstreams.items()
        ]
        routes = [explain_route(lambda *request: self.explainer.explain(Described(*request)))]
        if self.cache is not None:
            routes += cache_routes(self.cache)
        if self.loader is not None:
            checks.append(Check("preload", self.loader.readiness))
            routes += model_routes(self.loader)
        settings = self.config.server.admin
        token = "" if settings.token is None else settings.token.reveal()
        return AdminServer(
            self.life,
            self.telemetry.page,
            self.status,
            checks,
            place=settings.listen,
            token=token,
            more=routes,
        )

    # ------------------------------------------------------------- what serves
    @cached_property
    def ledger(self) -> Ledger:
        ledger = Ledger(self.config.server.limits.buffered)
        self.telemetry.metrics.sample("stream_buffered_bytes", lambda: [((), ledger.used)])
        return ledger

    @cached_property
    def admission(self) -> Admission:
        auth = self.config.server.auth
        quotas = Quotas(auth.rate, auth.inflight) if auth.rate or auth.inflight else None
        admission = Admission(self.config.server.limits.inflight, self.ledger, quotas)
        self.telemetry.metrics.sample("requests_in_flight", lambda: [((), admission.in_flight)])
        return admission

    @cached_property
    def routes(self) -> RouteTable:
        return RouteTable(routes_of(self.config))

    @cached_property
    def services(self) -> dict[str, Service]:
        return {name: self._service(name, *parts) for name, parts in self.upstreams.items()}

    @cached_property
    def pipeline(self) -> Pipeline:
        metrics = self.telemetry.metrics
        streams = Streams(stream_policy(self.config), metrics.stream, self.clock, self.ledger)
        metrics.sample("stream_paused", streams.paused)
        return Pipeline(
            self.routes,
            self.services,
            admission=self.admission,
            streams=streams,
            telemetry=self.telemetry,
            clock=self.clock,
        )

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(
            self.config,
            self.routes,
            self.services,
            self.rules,
            admission=self.admission,
            clock=self.clock,
            pools={name: cluster.snapshot for name, (cluster, _) in self.upstreams.items()},
            state=lambda: self.life.state.value,
        )

    def _service(self, name: str, cluster: Transports, batcher: Batcher) -> Service:
        config = self.config
        return Service(
            cluster,
            batcher,
            batch_policy(config),
            self.cache,
            cache_policy(config),
            self.gate if name == managed_upstream(config) else None,
            host_of(config.upstreams[name].host),
            is_bridged(config.upstreams[name]),
            cluster,
        )

    @cached_property
    def rules(self) -> HeadRules:
        return head_rules(self.config)

    @cached_property
    def http(self) -> HttpServer:
        server = self.config.server
        return HttpServer(
            self.pipeline,
            server.http.listen,
            self.rules,
            server.timeouts,
            ledger=self.ledger,
            tls=server.http.tls,
        )

    @cached_property
    def grpc(self) -> Http2Server | None:
        if not self.config.serves_http2:
            return None
        server = self.config.server
        return Http2Server(
            self.pipeline,
            server.grpc.listen,
            self.rules,
            server.timeouts,
            self.clock,
            ledger=self.ledger,
            tls=server.grpc.tls,
        )

    @cached_property
    def l4(self) -> list[L4Server]:
        doors = {name: cluster for name, (cluster, _) in self.upstreams.items()}
        return make_l4(self.config, self.telemetry, self.clock, doors, self.ledger)

    # ------------------------------------------------------------- what stands behind
    @cached_property
    def upstreams(self) -> dict[str, tuple[Transports, Batcher]]:
        """The connections and the lanes of each upstream."""
        metrics = self.telemetry.metrics
        upstreams = {}
        for name, cluster in make_doors(self.config, self.telemetry, self.clock, self.cache).items():
            inquire = partial(ask_batch_limit, cluster)
            batcher = Batcher(cluster, self.clock, metrics.batch, inquire=inquire)
            upstreams[name] = (cluster, batcher)
            for door in cluster.clusters:
                for gauge, sampler in door.gauges().items():
                    metrics.sample(gauge, sampler)
            metrics.sample("queue_depth", partial(by_model, batcher.waiting))
            metrics.sample("batch_inflight_limit", partial(by_model, batcher.limits))
        return upstreams

    @cached_property
    def cache(self) -> Cache | None:
        return make_cache(self.config, self.telemetry, self.clock, self.wall)

    @cached_property
    def loader(self) -> Loader | None:
        policy, name = self.config.loading, managed_upstream(self.config)
        if policy.mode == "off" or not name:
            return None
        upstream, (transports, batcher) = self.config.upstreams[name], self.upstreams[name]
        # a channel pool balances: only with one server behind it does control reach the one it means
        grpc = transports if len(upstream.grpc) == 1 and len(upstream.http) <= 1 else None
        connector, metrics = Connector(policy, upstream.http, grpc), self.telemetry.metrics

        def renewed(model: str) -> None:
            batcher.forget(model)
            if self.cache is not None:
                self.cache.renew(name, model)

        def reached() -> None:
            if not policy.control.url:  # another port says nothing about the one that calls go to
                transports.vouch()

        loader = Loader(
            policy,
            History(),
            connector,
            metrics.load,
            clock=self.clock,
            wall=self.wall,
            renewed=renewed,
            reached=reached,
        )
        for gauge, sampler in samplers(loader.planner).items():
            metrics.sample(gauge, sampler)
        return loader

    @cached_property
    def gate(self) -> Gate | None:
        if self.loader is None:
            return None
        header = self.config.loading.session_header.lower().encode()
        return Gate(self.loader, lambda model: self.config.model_policy(model).fallback, self.clock, header)


def _announce(app: App, status: StatusReport, state: State) -> None:
    """One line for each listener when all are up: scripts and people wait for it."""
    if state is not State.READY:
        return
    listeners = [("http", app.http.address)]
    if app.grpc is not None:
        listeners.append(("grpc", app.grpc.address))
    listeners += [(f"l4.{server.upstream}", server.address) for server in app.l4]
    listeners.append(("admin", app.admin.address))
    for name, address in listeners:
        status.add_listener(name, address)
        print(f"pillion {name} listening on {address}", flush=True)  # noqa: T201  the contract of `serve`


def explain(loaded: Loaded, described: Described) -> dict[str, object]:
    """What a proxy that has just been started would do with a request; ValueError for what is no request."""

    async def ask() -> dict[str, object]:
        return _Parts(loaded, LoopClock(), time.time).explainer.explain(described)  # noqa: TID251  as in `proxy.process`

    return asyncio.run(ask())
