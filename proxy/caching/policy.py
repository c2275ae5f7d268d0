"""What an operator says about caching: for each model (YAML: ``models.<glob>.cache``) and in all
(``cache``)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from proxy.config.fields import Duration, Policy, SecretText, Size

__all__ = ("CachePolicy", "StorePolicy")


class CachePolicy(Policy):
    """Whether answers of one model may be given again, and for how long."""

    mode: Literal["off", "deterministic"] = "off"
    """`deterministic` states that equal inputs always get equal answers: they are then computed once. `off`
    neither keeps answers nor lets equal requests share one."""
    ttl: Duration = 600.0
    """Longest span per answer for which it is given again; the backend's `Cache-Control` can shorten it."""
    entry: Size = Field(default=256 << 10, ge=1)
    """Bytes per answer above which it is not kept."""
    items: bool = True
    """Whether the items of a request are looked up one by one, so that only unknown ones are computed. Only
    where batching is on, which relies on the same independence of items."""
    stale_if_error: Duration = 0.0
    """Span after `ttl` during which an answer is still given when the backend fails."""
    stale_while_revalidate: Duration = 0.0
    """Span after `ttl` during which an answer is still given at once while a new one is fetched."""
    ignore: tuple[str, ...] = ()
    """Request header fields that do not tell callers apart. Fields that Pillion knows to be noise (such as
    `user-agent`) need not be listed; with `authorization` in it, callers are given each other's answers."""


class StorePolicy(Policy):
    """Where answers are kept."""

    backend: Literal["memory", "sqlite", "redis"] = "memory"
    """`sqlite` (a file that outlives a restart) and `redis` (shared between sidecars) stand behind the
    memory, never instead of it."""
    url: SecretText | None = None
    """`redis`: `redis://[user:password@]host:port/db` or `unix:///path`; `sqlite`: the file's path."""
    max_bytes: Size = Field(default=256 << 20, ge=1 << 20)
    """Bytes of kept answers in memory, in all, and again in the file of `sqlite`."""
    timeout: Duration = Field(default=0.050, gt=0)
    """Longest span per operation on `sqlite` or `redis`; a late one counts as a miss."""
    secret: SecretText | None = None
    """Signs what is kept in `sqlite` or `redis`: answers that somebody else put there, or that were signed
    with an older secret, are ignored."""
    metadata: Duration = 0.0
    """Longest span for which a known protocol's metadata (`GET` on a model, its config, the list of models)
    is given again; 0s: never."""

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if self.backend != "memory" and (self.url is None or not self.url.reveal()):
            raise ValueError(f"backend: {self.backend} needs a url")
        return self
