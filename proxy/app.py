"""The composition root: builds every object of a running proxy from its configuration, and joins the rooms.

The only module that knows all rooms; nothing imports it but the command line.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from proxy import __version__
from proxy.admin.server import AdminServer
from proxy.batching.lane import Batcher
from proxy.config.dump import dump
from proxy.config.presets import routes_of
from proxy.ingress.http import HttpServer
from proxy.ingress.http2 import Http2Server
from proxy.lifecycle import Lifecycle, State
from proxy.pipeline import Pipeline, Service
from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.http_pool import HttpPool
from proxy.pooling.transports import Transports
from proxy.routing.admission import Admission
from proxy.routing.table import RouteTable
from proxy.telemetry.status import StatusReport
from proxy.telemetry.telemetry import Telemetry
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.admin.readiness import Check
    from proxy.batching.policy import BatchPolicy
    from proxy.config.load import Loaded
    from proxy.config.model import Config
    from proxy.lifecycle import Component
    from proxy.timing import Clock

__all__ = ("App", "build", "run")

EXIT_OK = 0
EXIT_RUNTIME = 1


class App:
    """One proxy: its lifecycle and its components in the order in which they start."""

    def __init__(
        self,
        life: Lifecycle,
        components: list[Component],
        http: HttpServer,
        admin: AdminServer,
        grpc: Http2Server | None,
    ) -> None:
        self.life = life
        self.http = http
        self.grpc = grpc
        self.admin = admin
        self._components = components

    async def run(self) -> None:
        """Serve until the lifecycle is asked to leave; raises OSError when a listener cannot be bound."""
        await self.life.run(self._components)


class UpstreamComponent:
    """The life of one upstream: its lanes are flushed when draining, its connections closed at the end."""

    def __init__(self, cluster: Transports, batcher: Batcher) -> None:
        self._cluster = cluster
        self._batcher = batcher

    async def start(self) -> None:
        """Begin to watch the backend; an unreachable one is no reason not to start."""

    async def drain(self, deadline: float) -> None:
        """Send what is queued and wait for its answers."""
        await self._batcher.drain()

    async def stop(self) -> None:
        """Close every connection."""
        await self._batcher.close()
        await self._cluster.close()


def build(loaded: Loaded, clock: Clock, wall: Callable[[], float]) -> App:
    """Wire a proxy; nothing is bound or connected yet. Call it inside a running loop.

    `wall` gives seconds since the epoch, for log lines only.
    """
    config = loaded.config
    life = Lifecycle(clock, config.server.drain)
    telemetry = Telemetry(
        clock, wall, config.observe.access_log, version=__version__, models=_named_models(config)
    )
    fingerprint = hashlib.sha256(dump(loaded).encode()).hexdigest()[:12]
    status = StatusReport(
        telemetry, clock.now, lambda: life.state, version=__version__, config_hash=fingerprint
    )
    admission = Admission(config.server.limits.inflight)
    telemetry.metrics.sample("requests_in_flight", lambda: [((), admission.in_flight)])

    services: dict[str, Service] = {}
    upstreams: list[Component] = []
    checks: list[Check] = []
    channels = {
        name: ChannelPool(upstream.grpc[0], upstream.pool.grpc, upstream.timeouts, clock)
        for name, upstream in config.upstreams.items()
        if upstream.grpc
    }
    for name, upstream in config.upstreams.items():
        cluster = Transports(
            HttpPool(upstream.http[0], upstream.pool.http, upstream.timeouts, clock)
            if upstream.http
            else None,
            # A gRPC path says nothing of upstreams: one that got here by the catch-all must still arrive.
            channels.get(name) or next(iter(channels.values()), None),
        )
        batcher = Batcher(cluster, clock, telemetry.metrics.batch)
        services[name] = Service(cluster, batcher, _batch_policy(config))
        upstreams.append(UpstreamComponent(cluster, batcher))
        status.add_pool(name, cluster.snapshot)
        telemetry.metrics.sample("queue_depth", partial(_queue_depths, batcher))

    pipeline = Pipeline(
        RouteTable(routes_of(config)), services, admission=admission, telemetry=telemetry, clock=clock
    )
    http = HttpServer(pipeline, config.server.http.listen, config.server.limits, config.server.timeouts)
    grpc = (
        Http2Server(pipeline, config.server.grpc.listen, config.server.limits, config.server.timeouts, clock)
        if config.serves_http2
        else None
    )
    token = config.server.admin.token
    admin = AdminServer(
        life,
        telemetry.page,
        status,
        checks,
        place=config.server.admin.listen,
        token=token.reveal() if token is not None else "",
    )
    components: list[Component] = [telemetry, admin, *upstreams, http]
    if grpc is not None:
        components.append(grpc)
    app = App(life, components, http, admin, grpc)
    life.on_change(partial(_announce, app, status))
    return app


def _batch_policy(config: Config) -> Callable[[str], BatchPolicy]:
    return lambda model: config.model_policy(model).batch


def _named_models(config: Config) -> tuple[str, ...]:
    """The model names that the configuration writes out; globs name nothing that a metric could show."""
    return tuple(name for name in config.models if not set(name) & set("*?"))


def _queue_depths(batcher: Batcher) -> list[tuple[tuple[str, ...], float]]:
    return [((model,), depth) for model, depth in batcher.waiting()]


def _announce(app: App, status: StatusReport, state: State) -> None:
    """One line for each listener when all are up: scripts and people wait for it."""
    if state is not State.READY:
        return
    listeners = [("http", app.http.address)]
    if app.grpc is not None:
        listeners.append(("grpc", app.grpc.address))
    listeners.append(("admin", app.admin.address))
    for name, address in listeners:
        status.add_listener(name, address)
        print(f"pillion {name} listening on {address}", flush=True)  # noqa: T201  the contract of `serve`


def run(loaded: Loaded) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(loaded))
        except OSError as error:
            print(f"pillion: {error}", file=sys.stderr)  # noqa: T201  the operator's terminal
            return EXIT_RUNTIME
    return EXIT_OK


async def _serve(loaded: Loaded) -> None:
    app = build(loaded, LoopClock(), time.time)  # noqa: TID251  the one place that may read the wall clock
    with app.life.signals():
        await app.run()
