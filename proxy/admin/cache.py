"""The operator's view of the cache: what is in it, and how to empty it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.admin.server import Route, json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

__all__ = ("CacheControl", "cache_routes")

_KNOWN = frozenset({"model", "upstream"})


class CacheControl(Protocol):
    """What the endpoints need of a cache."""

    async def stats(self) -> Mapping[str, object]:
        """Everything there is to know, as plain values."""

    async def purge(self, upstream: str, model: str) -> None:
        """Forget the answers of one model on one upstream; empty: of all."""


def cache_routes(cache: CacheControl) -> tuple[Route, ...]:
    """``GET /cache`` and ``POST /cache/purge``."""

    async def stats(_request: web.Request) -> web.Response:
        return json_answer(200, await cache.stats())

    async def purge(request: web.Request) -> web.Response:
        unknown = set(request.query) - _KNOWN
        if unknown:  # a misspelt filter must not empty everything
            return json_answer(400, {"error": f"unknown parameter {min(unknown)}", "known": sorted(_KNOWN)})
        upstream, model = request.query.get("upstream", ""), request.query.get("model", "")
        await cache.purge(upstream, model)
        return json_answer(200, {"purged": {"upstream": upstream or "*", "model": model or "*"}})

    return (
        Route("GET", "/cache", "what the cache holds and what came of lookups", stats),
        Route("POST", "/cache/purge", "forget answers; ?model= and ?upstream= say whose", purge),
    )
