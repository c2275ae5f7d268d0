"""``GET /explain``: what the running proxy would do with a request, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.admin.server import Route, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    Explain = Callable[[str, str, tuple[str, ...], bytes], object]

__all__ = ("explain_route",)

_KNOWN = frozenset({"method", "url", "header", "body"})


def explain_route(explain: Explain) -> Route:
    """The endpoint; `explain` takes method, URL, ``name: value`` fields and body, and raises ValueError."""

    async def handle(request: web.Request) -> web.Response:
        query = request.query
        unknown = set(query) - _KNOWN
        if unknown or "url" not in query:
            wrong = f"unknown parameter {min(unknown)}" if unknown else "url is missing"
            return json_answer(400, {"error": wrong, "known": sorted(_KNOWN)})
        fields = tuple(query.getall("header", []))
        try:
            found = explain(query.get("method", "GET"), query["url"], fields, query.get("body", "").encode())
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        return json_answer(200, found)

    return Route(
        "GET",
        "/explain",
        "what would be done with ?method=&url=&header=&body=, and why; sends nothing",
        handle,
    )
