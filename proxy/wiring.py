"""What the rooms take from the configuration: its values in the form in which each room wants them.

Nothing is made here that lives on; `proxy.app` does that.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from proxy.batching.keys import HeaderRules
from proxy.ingress.rules import HeadRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.batching.policy import BatchPolicy
    from proxy.caching.policy import CachePolicy
    from proxy.config.model import Config
    from proxy.streaming.policy import StreamPolicy

__all__ = (
    "batch_policy",
    "by_model",
    "cache_policy",
    "field_rules",
    "head_rules",
    "host_of",
    "managed_upstream",
    "named_models",
    "stream_policy",
)


def managed_upstream(config: Config) -> str:
    """The upstream whose models are loaded and unloaded; empty when there is none.

    A generic one, of whose paths nothing is known, is asked about its models only where that is wanted.
    """
    loading = config.loading
    if loading.control.upstream:
        return loading.control.upstream
    is_wanted = loading.mode != "observe" or loading.control.protocol != "auto"
    candidates = [name for name, upstream in config.upstreams.items() if upstream.takes_calls]
    known = [name for name in candidates if config.upstreams[name].protocol != "generic"]
    return next(iter(candidates if is_wanted else known), "")


def head_rules(config: Config) -> HeadRules:
    """What is asked of a request's head; the name tells this proxy from others in `Via`."""
    server = config.server
    return HeadRules(
        server.limits,
        auth=server.auth,
        forwarding=server.forwarding,
        trusted=server.trusted_proxies,
        name=f"pillion-{secrets.token_hex(4)}",
    )


def host_of(setting: str) -> bytes | None:
    """What takes the place of a client's `Host`: None leaves it, empty stands for the upstream's own name."""
    return {"preserve": None, "upstream": b""}.get(setting, setting.encode())


def batch_policy(config: Config) -> Callable[[str], BatchPolicy]:
    """How a model's requests are batched, by its name."""
    return lambda model: config.model_policy(model).batch


def stream_policy(config: Config) -> Callable[[str], StreamPolicy]:
    """How a model's answers are streamed, by its name."""
    return lambda model: config.model_policy(model).stream


def cache_policy(config: Config) -> Callable[[str], CachePolicy]:
    """What is kept of a model's answers, by its name.

    Items are looked up one by one only where batching relies on their independence too.
    """
    together: dict[int, CachePolicy] = {}  # a policy lives as long as its configuration, and so does this

    def policy(model: str) -> CachePolicy:
        found = config.model_policy(model)
        if found.batch.mode != "off" or not found.cache.items:
            return found.cache
        whole = together.get(id(found.cache))
        if whole is None:
            whole = together[id(found.cache)] = found.cache.model_copy(update={"items": False})
        return whole

    return policy


def field_rules(ignore: Sequence[str]) -> HeaderRules:
    """What keeps callers out of each other's batches keeps them out of each other's answers."""
    is_shared = "authorization" in (name.lower() for name in ignore)
    return HeaderRules(() if is_shared else ("authorization",), ignore)


def named_models(config: Config) -> tuple[str, ...]:
    """The model names that the configuration writes out; globs name nothing that a metric could show."""
    return tuple(name for name in config.models if not set(name) & set("*?"))


def by_model(read: Callable[[], Iterable[tuple[str, float]]]) -> list[tuple[tuple[str, ...], float]]:
    """Samples for a gauge labelled by model."""
    return [((model,), value) for model, value in read()]
