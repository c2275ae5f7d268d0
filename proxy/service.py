"""One upstream as the request path sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.caching.policy import CachePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.batching.lane import Batcher
    from proxy.batching.policy import BatchPolicy
    from proxy.caching.cache import Cache
    from proxy.exchange import PromptUpstream, Upstream
    from proxy.loading.gate import Gate

__all__ = ("Service",)

_OFF = CachePolicy()


def _nothing_kept(_model: str) -> CachePolicy:
    return _OFF


class Service(NamedTuple):
    """Where calls go alone, where to be batched, and by what rule.

    `policy` and `cache_policy` give a model's policies by its name ("" where the path names none). `cache` is
    None where nothing is kept, `gate` where no models are managed. `host` takes the place of the client's
    `Host`; None keeps it, an empty one leaves it to the connection, which knows its endpoint's name.
    `has_bridge` says that REST calls go to this upstream as gRPC ones. `prompt` is the upstream once more,
    where it can send a call without a task."""

    upstream: Upstream
    batcher: Batcher
    policy: Callable[[str], BatchPolicy]
    cache: Cache | None = None
    cache_policy: Callable[[str], CachePolicy] = _nothing_kept
    gate: Gate | None = None
    host: bytes | None = None
    has_bridge: bool = False
    prompt: PromptUpstream | None = None
