"""A listener with the real pipeline and pool behind it, in the test's own loop.

async with stage(upstream.url, server={"limits": {"body": "1KiB"}}) as server:
    …                                             # talk to `server.address`; look at `server.admission` etc.

Settings are those of `server` in the YAML, as they are written there; so are those of `stream` (of a model) and
what `pool` adds to the upstream.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from proxy.batching.lane import Batcher
from proxy.batching.policy import BatchPolicy
from proxy.config.addresses import Address
from proxy.config.model import Config
from proxy.config.presets import routes_of
from proxy.exchange import Ledger
from proxy.ingress.rules import HeadRules
from proxy.ingress.server import HttpServer
from proxy.pipeline import Pipeline
from proxy.pooling.cluster import Cluster
from proxy.routing.admission import Admission
from proxy.routing.table import RouteTable
from proxy.service import Service
from proxy.streaming.policy import StreamPolicy
from proxy.streaming.streams import Streams
from proxy.telemetry.policy import AccessLogPolicy
from proxy.telemetry.telemetry import Telemetry
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended

__all__ = ("Stage", "Witness", "stage")


class Witness:
    """Remembers each call and how it ended, and passes it on to telemetry."""

    def __init__(self, clock: LoopClock) -> None:
        self._telemetry = Telemetry(clock, lambda: 0.0, AccessLogPolicy(format="off"), version="test")
        self.metrics = self._telemetry.metrics
        self.calls: list[Call] = []
        self.ended: list[Ended] = []

    def record(self, call: Call, ended: Ended) -> None:
        """Remember, then count as usual."""
        self.calls.append(call)
        self.ended.append(ended)
        self._telemetry.record(call, ended)


class Stage:
    """What a test may look at: the listener, its admission counter, the pool behind, and the body ledger."""

    def __init__(
        self,
        server: HttpServer,
        pool: Cluster,
        admission: Admission,
        ledger: Ledger,
        telemetry: Witness,
    ) -> None:
        self.server = server
        self.telemetry = telemetry
        self.pool = pool
        self.admission = admission
        self.ledger = ledger

    @property
    def url(self) -> str:
        return self.server.address

    @property
    def is_at_rest(self) -> bool:
        """True when nothing is held for any call."""
        (snapshot,) = self.pool.snapshot()
        busy = [snapshot[name] for name in ("leased", "dialing", "waiting")]
        return self.admission.in_flight == 0 and self.ledger.used == 0 and not any(busy)


# No probe, no spare connection, no retry: the scripted backend sees nothing but what a test sends.
_UNASSISTED = {"health": {"every": "0s"}, "pool": {"http": {"min": 0}}, "retry": {"attempts": 1}}


@asynccontextmanager
async def stage(
    url: str,
    *,
    protocol: str = "generic",
    place: Address | None = None,
    batch: BatchPolicy | None = None,
    server: Mapping[str, object] = MappingProxyType({}),
    host: bytes | None = None,
    stream: Mapping[str, object] = MappingProxyType({}),
    pool: Mapping[str, object] = MappingProxyType({}),
) -> AsyncIterator[Stage]:
    """A running listener in front of the backend at `url`."""
    clock = LoopClock()
    config = Config.model_validate(
        {
            "version": 1,
            "server": dict(server),
            "upstreams": {"model": {"protocol": protocol, "http": (url,)} | _UNASSISTED | dict(pool)},
        }
    )
    settings = config.server
    streaming = StreamPolicy.model_validate(dict(stream))
    telemetry = Witness(clock)
    upstream = config.upstreams["model"]
    cluster = Cluster(
        "model", upstream.http, upstream, clock, events=telemetry.metrics.pool("model"), protocol=protocol
    )
    batcher = Batcher(cluster, clock, telemetry.metrics.batch)
    ledger = Ledger(settings.limits.buffered)
    admission = Admission(settings.limits.inflight, ledger)
    policy = batch or BatchPolicy()
    pipeline = Pipeline(
        RouteTable(routes_of(config)),
        {"model": Service(cluster, batcher, lambda _model: policy, host=host)},
        admission=admission,
        telemetry=telemetry,
        clock=clock,
        streams=Streams(lambda _model: streaming, telemetry.metrics.stream, clock, ledger),
    )
    rules = HeadRules(
        settings.limits,
        auth=settings.auth,
        forwarding=settings.forwarding,
        trusted=settings.trusted_proxies,
        name="pillion",
    )
    listener = HttpServer(
        pipeline,
        place or Address("127.0.0.1", 0),
        rules,
        settings.timeouts,
        ledger=ledger,
        tls=settings.http.tls,
    )
    await listener.start()
    try:
        yield Stage(listener, cluster, admission, ledger, telemetry)
    finally:
        await listener.stop()
        await batcher.close()
        await cluster.stop()
