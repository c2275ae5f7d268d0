"""Makes the parts that several rooms have a share in, for `proxy.app`, which makes each of them once.

The cache takes its codecs and field rules from batching, because what keeps callers out of each other's
batches keeps them out of each other's answers; it hears from the connections when a backend was restarted.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from proxy.batching.codecs import CODECS
from proxy.batching.keys import shared_fields
from proxy.ingress.l4 import L4Server
from proxy.pooling.cluster import Cluster
from proxy.pooling.events import unobserved
from proxy.pooling.transports import Transports
from proxy.wiring import field_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.batching.lane import Batcher
    from proxy.caching.cache import Cache
    from proxy.config.model import Config
    from proxy.exchange import Ledger
    from proxy.pooling.endpoint import Endpoint
    from proxy.telemetry.telemetry import Telemetry
    from proxy.timing import Clock

__all__ = ("UpstreamComponent", "make_cache", "make_doors", "make_l4")


class UpstreamComponent:
    """The life of one upstream: its lanes are flushed when draining, its connections closed at the end."""

    def __init__(self, cluster: Transports, batcher: Batcher) -> None:
        self._cluster = cluster
        self._batcher = batcher

    async def start(self) -> None:
        """Begin to watch the backend; an unreachable one is no reason not to start."""
        await self._cluster.start()

    async def drain(self, deadline: float) -> None:
        """Send what is queued and wait for its answers."""
        await self._batcher.drain()

    async def stop(self) -> None:
        """Close every connection."""
        await self._batcher.close()
        await self._cluster.stop()


def make_cache(config: Config, telemetry: Telemetry, clock: Clock, wall: Callable[[], float]) -> Cache | None:
    """The cache, or None when the configuration keeps nothing."""
    if not config.cache.metadata and all(model.cache.mode == "off" for model in config.models.values()):
        return None
    from proxy.caching.assembly import assemble  # noqa: PLC0415  loads aiohttp-client-cache, for those who use it

    cache = assemble(
        config.cache,
        clock=clock,
        wall=wall,
        rules=field_rules,
        codecs=CODECS,
        share=shared_fields,
        upstreams=tuple(config.upstreams),
    )
    lru, sample = cache.store.memory.lru, telemetry.metrics.sample
    sample("cache_lookups_total", lambda: [((result,), count) for result, count in cache.results.items()])
    sample("cache_entries", lambda: [((), len(lru))])
    sample("cache_bytes", lambda: [((), lru.nbytes)])
    sample("cache_evictions_total", lambda: [(("size",), lru.evicted), (("age",), lru.expired)])
    sample("cache_errors_total", lambda: [((name,), count) for name, count in cache.store.errors.items()])
    return cache


def make_doors(
    config: Config, telemetry: Telemetry, clock: Clock, cache: Cache | None
) -> dict[str, Transports]:
    """The clusters of each upstream; `cache` hears what their probes see."""

    def cluster(name: str, endpoints: tuple[Endpoint, ...], protocol: str) -> Cluster | None:
        if not endpoints:
            return None
        policy, events = config.upstreams[name], telemetry.metrics.pool(name)
        seen = unobserved if cache is None else partial(cache.seen, name)
        return Cluster(name, endpoints, policy, clock, events=events, protocol=protocol, seen=seen)

    grpc = {name: cluster(name, upstream.grpc, "grpc") for name, upstream in config.upstreams.items()}
    first = next(filter(None, grpc.values()), None)
    return {
        name: Transports(
            cluster(name, upstream.http, upstream.protocol),
            grpc[name],
            first,
            cluster(name, upstream.l4, "l4"),
        )
        for name, upstream in config.upstreams.items()
    }


def make_l4(
    config: Config, telemetry: Telemetry, clock: Clock, doors: Mapping[str, Transports], ledger: Ledger
) -> list[L4Server]:
    """The listeners that pass bytes on untouched, each to its upstream's door for bytes."""
    servers = []
    for entry in config.server.l4:
        cluster = doors[entry.upstream].l4
        if cluster is None:
            raise ValueError(f"upstream {entry.upstream} has no l4 endpoint")
        server = L4Server(cluster, entry.listen, clock, ledger=ledger, most=config.server.limits.connections)
        for name, sampler in server.samplers().items():
            telemetry.metrics.sample(name, sampler)
        servers.append(server)
    return servers
