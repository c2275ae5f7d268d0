"""Builds a cache from its policy; the other rooms' part in it is handed in by the composition root."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from proxy.caching.cache import Cache
from proxy.caching.entries import Seal
from proxy.caching.fetching import Fetcher
from proxy.caching.generations import Generations
from proxy.caching.guard import Guard
from proxy.caching.policy import CachePolicy
from proxy.caching.questions import Interpreter
from proxy.caching.seeking import Seeker
from proxy.caching.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proxy.caching.policy import StorePolicy
    from proxy.caching.questions import Codec, Rules
    from proxy.caching.tiers.base import Tier
    from proxy.config.fields import Secret
    from proxy.exchange import Headers
    from proxy.timing import Clock

__all__ = ("assemble", "make_tier")

_ID_FIELDS = {"open_inference": "id"}
_TOKEN_BYTES = 8


def assemble(
    policy: StorePolicy,
    *,
    clock: Clock,
    wall: Callable[[], float],
    rules: Callable[[Sequence[str]], Rules],
    codecs: Mapping[str, Codec],
    share: Callable[[Headers], Headers],
    upstreams: Sequence[str],
) -> Cache:
    """A cache that is not started yet.

    `wall` gives seconds since the epoch; it is read once, because it may jump. `rules` makes the rules for
    request fields from those to ignore, `codecs` understand bodies, `share` leaves those answer fields that
    say nothing about one caller; `upstreams` are the names of all upstreams.
    """
    born = wall() - clock.now()

    def now() -> float:
        return born + clock.now()

    generations = Generations(lambda: secrets.token_bytes(_TOKEN_BYTES))
    guard = None
    if policy.backend != "memory":
        guard = Guard(lambda: make_tier(policy, now), policy.timeout, clock)
    store = Store(
        policy.max_bytes,
        generations,
        clock=clock,
        now=now,
        seal=Seal(_revealed(policy.secret)),
        guard=guard,
    )
    return Cache(
        store,
        generations,
        Interpreter(rules, codecs, _ID_FIELDS),
        Seeker(Fetcher(store, generations, share, now), clock),
        metadata=_metadata(policy),
        upstreams=upstreams,
    )


def make_tier(policy: StorePolicy, now: Callable[[], float]) -> Tier:
    """The storage that `policy` names, not connected yet; its driver is imported for those who use it."""
    url = _revealed(policy.url)
    if policy.backend == "sqlite":
        from proxy.caching.tiers.sqlite import SqliteTier  # noqa: PLC0415  with its driver, for those who use it

        return SqliteTier(url, policy.max_bytes)
    from proxy.caching.tiers.redis import RedisTier  # noqa: PLC0415  as above

    return RedisTier(url, policy.timeout, now)


def _metadata(policy: StorePolicy) -> CachePolicy:
    """Metadata as if it were a model's answers."""
    return CachePolicy.model_construct(
        mode="deterministic" if policy.metadata else "off",
        ttl=policy.metadata,
        entry=CachePolicy().entry,
        items=False,
        stale_if_error=0.0,
        stale_while_revalidate=0.0,
        ignore=(),
    )


def _revealed(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()
