"""Makes the cache of a proxy and joins it to the rooms that it knows nothing of.

The codecs and the field rules are batching's, the numbers are telemetry's: what keeps callers out of each
other's batches keeps them out of each other's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.batching.codecs import CODECS
from proxy.batching.keys import shared_fields
from proxy.wiring import field_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.caching.cache import Cache
    from proxy.config.model import Config
    from proxy.telemetry.telemetry import Telemetry
    from proxy.timing import Clock

__all__ = ("make_cache",)


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
