"""Which route takes a call, and which model it is for.

Theory of operation
------------------- Routes are tried in order and the first whose rules all match wins. Each rule is
compiled once to a regular expression over the path as it was sent; a `{name}` becomes a run of characters
other than ``/``, a final ``*`` any rest. Two places are always separated by literal text, so matching takes
at worst the square of one path's length, which the limit on a request's head bounds.

The query string takes no part. Percent-encoding is decoded only in the extracted model and version: the
target itself is forwarded as it came. A name that is not UTF-8 names no model: such a call falls through to
a route that asks for none, and the backend says what it thinks of it.

Matching a table of twenty routes takes several microseconds and real traffic repeats a handful of paths, so
the answers are kept. Paths come from clients, who may send any number of different ones; the memory is
therefore two generations of at most `_GENERATION` answers for each common method, for paths of at most
`_LONGEST_PATH` bytes (3.6 MB of paths in all). A lookup that misses the young generation tries the old one
and moves what it finds; when the young one is full it becomes the old one. Paths that are in use survive
every turn-over, random ones never live longer than two, and nothing is ever scanned. A hit costs two
dictionary lookups.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from proxy.errors import RouteNotFound
from proxy.routing.policy import Kind, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Kind", "Match", "Route", "RouteTable", "Rule")

_GENERATION: Final = 512
_LONGEST_PATH: Final = 512
_REMEMBERED_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS")

_Pattern = tuple[frozenset[bytes], re.Pattern[bytes]]


class Match:
    """The route that takes a call, with the model and version that its path names ("" and None when it
    names none)."""

    __slots__ = ("model", "route", "version")

    def __init__(self, route: Route, model: str = "", version: str | None = None) -> None:
        self.route = route
        self.model = model
        self.version = version

    @property
    def codec(self) -> str | None:
        """The batching codec of the route."""
        return self.route.codec

    def __repr__(self) -> str:
        return f"Match(route={self.route.name!r}, model={self.model!r}, version={self.version!r})"


class RouteTable:
    """Routes in order of preference."""

    __slots__ = ("_old", "_routes", "_young")

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(route, [_compile(rule) for rule in route.rules]) for route in routes]
        self._young: dict[bytes, dict[bytes, Match]] = {method: {} for method in _REMEMBERED_METHODS}
        self._old: dict[bytes, dict[bytes, Match]] = {method: {} for method in _REMEMBERED_METHODS}

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route, in order."""
        return tuple(route for route, _ in self._routes)

    def match(self, method: bytes, target: bytes) -> Match:
        """The first route that takes `method` on `target` (the request target as received).

        Raises `RouteNotFound` when none does.
        """
        young = self._young.get(method)
        path = target.partition(b"?")[0]
        if young is None or len(path) > _LONGEST_PATH:
            return self._search(method, path)
        found = young.get(path)
        return self._remember(method, path) if found is None else found

    def _remember(self, method: bytes, path: bytes) -> Match:
        found = self._old[method].get(path) or self._search(method, path)
        if len(self._young[method]) >= _GENERATION:
            self._old[method], self._young[method] = self._young[method], {}
        self._young[method][path] = found
        return found

    def _search(self, method: bytes, path: bytes) -> Match:
        for route, patterns in self._routes:
            found = _try(route, patterns, method, path)
            if found is not None:
                return found
        raise RouteNotFound(f"no route for {method.decode('latin-1')} {path.decode('latin-1')}")


def _compile(rule: Rule) -> _Pattern:
    path, is_open = rule.path.removesuffix("*"), rule.path.endswith("*")
    expression = "".join(
        f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
        for index, part in enumerate(re.split(r"[{}]", path))
    )
    methods = {method.encode() for method in rule.methods}
    if b"GET" in methods:
        methods.add(b"HEAD")
    return frozenset(methods), re.compile((expression + (".*" if is_open else "")).encode(), re.DOTALL)


def _try(route: Route, patterns: list[_Pattern], method: bytes, path: bytes) -> Match | None:
    places: dict[str, bytes] = {}
    for methods, pattern in patterns:
        if methods and method not in methods:
            return None
        found = pattern.fullmatch(path)
        if found is None:
            return None
        places = found.groupdict() | places
    return _named(route, places.get("model"), places.get("version"))


def _named(route: Route, model: bytes | None, version: bytes | None) -> Match | None:
    try:
        return Match(
            route,
            "" if model is None else unquote_to_bytes(model).decode(),
            None if version is None else unquote_to_bytes(version).decode(),
        )
    except UnicodeDecodeError:
        return None
