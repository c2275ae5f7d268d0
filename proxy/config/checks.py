"""What no single value can be wrong about: contradictions and doubtful combinations in a valid configuration.

Each check yields `Finding`s for a whole `Config`. Errors make a configuration unusable; warnings name what
will work, though probably not as meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from proxy.config.addresses import Address
from proxy.config.diagnosis import closest
from proxy.config.fields import format_duration
from proxy.config.globs import Globs
from proxy.config.model import ModelConfig, overlay
from proxy.config.presets import PROTOCOLS, ProtocolName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.model import Config
    from proxy.config.problems import Path
    from proxy.pooling.endpoint import Endpoint

__all__ = ("Finding", "check_config")


# ``/package.Service/Method``, as gRPC's style guide spells the names; the method may be a wildcard.
_GRPC_PATH = re.compile(r"/[A-Za-z_][\w.]*\.[A-Z]\w*/(?:[A-Z]\w*|\*|\{\w+\})")


class Finding(NamedTuple):
    """A problem before it has a line."""

    path: Path
    message: str
    suggestion: str = ""
    severity: Literal["error", "warning"] = "error"


def check_config(config: Config) -> Iterator[Finding]:
    """Everything that is wrong or doubtful about `config` as a whole."""
    yield from _listeners(config)
    yield from _loops(config)
    yield from _route_targets(config)
    yield from _l4_targets(config)
    yield from _duplicate_routes(config)
    yield from _unreachable_upstreams(config)
    yield from _contradicting_globs(config)
    yield from _waits(config)
    yield from _open_admin(config)
    yield from _loading(config)


def _listen_addresses(config: Config) -> list[tuple[Path, Address]]:
    sections = ((name, getattr(config.server, name)) for name in type(config.server).model_fields)
    places: list[tuple[Path, Address]] = [
        (("server", name, "listen"), section.listen)
        for name, section in sections
        if isinstance(getattr(section, "listen", None), Address) and (name != "grpc" or config.serves_http2)
    ]
    places += [
        (("server", "l4", index, "listen"), entry.listen) for index, entry in enumerate(config.server.l4)
    ]
    return places


def _listeners(config: Config) -> Iterator[Finding]:
    seen: list[tuple[Path, Address]] = []
    for path, address in _listen_addresses(config):
        for other, taken in seen:
            if address.collides(taken):
                yield Finding(path, f"{address} is already taken by {'.'.join(map(str, other))}")
        seen.append((path, address))


def _loops(config: Config) -> Iterator[Finding]:
    for path, address in _listen_addresses(config):
        for name, upstream in config.upstreams.items():
            endpoints = (("http", upstream.http), ("grpc", upstream.grpc), ("l4", upstream.l4))
            for key, index, endpoint in _numbered(endpoints):
                if _is_same(address, endpoint):
                    listener = ".".join(map(str, path))
                    yield Finding(("upstreams", name, key, index), f"this is the proxy itself ({listener})")


def _numbered(
    lists: tuple[tuple[str, tuple[Endpoint, ...]], ...],
) -> Iterator[tuple[str, int, Endpoint]]:
    for key, endpoints in lists:
        for index, endpoint in enumerate(endpoints):
            yield key, index, endpoint


def _is_same(address: Address, endpoint: Endpoint) -> bool:
    if address.path or endpoint.path:
        return address.path == endpoint.path
    there = "127.0.0.1" if endpoint.host == "localhost" else endpoint.host
    here = "127.0.0.1" if address.host == "localhost" else address.host
    is_here = there == here or (address.is_wildcard and Address(there, 0).is_loopback)
    return is_here and address.port == endpoint.port


def _route_targets(config: Config) -> Iterator[Finding]:
    for index, route in enumerate(config.routes):
        if route.upstream not in config.upstreams:
            near = closest(route.upstream, config.upstreams) or ", ".join(config.upstreams)
            yield Finding(("routes", index, "upstream"), f"no upstream is named {route.upstream}", near)
        elif not config.upstreams[route.upstream].takes_calls:
            message = f"{route.upstream} has l4 endpoints only: no call can be routed to it"
            yield Finding(("routes", index, "upstream"), message)
        elif _GRPC_PATH.fullmatch(route.match.path) and not config.upstreams[route.upstream].grpc:
            message = f"{route.match.path} is a gRPC method, and {route.upstream} has no grpc endpoint"
            yield Finding(("routes", index, "upstream"), message)


def _l4_targets(config: Config) -> Iterator[Finding]:
    with_l4 = [name for name, upstream in config.upstreams.items() if upstream.l4]
    for index, entry in enumerate(config.server.l4):
        path = ("server", "l4", index, "upstream")
        if entry.upstream not in config.upstreams:
            near = closest(entry.upstream, config.upstreams) or ", ".join(with_l4)
            yield Finding(path, f"no upstream is named {entry.upstream}", near)
        elif entry.upstream not in with_l4:
            yield Finding(path, f"{entry.upstream} has no l4 endpoint", ", ".join(with_l4))
    if config.server.l4 and config.server.auth.keys:
        message = "whoever reaches an l4 listener is let through: keys are not asked for there"
        yield Finding(("server", "l4"), message, severity="warning")
    for name in with_l4:
        if name not in {entry.upstream for entry in config.server.l4}:
            message = "nothing leads here: no listener in server.l4 names this upstream"
            yield Finding(("upstreams", name, "l4"), message, severity="warning")


def _duplicate_routes(config: Config) -> Iterator[Finding]:
    seen: dict[tuple[str, str | None], int] = {}
    for index, route in enumerate(config.routes):
        for method in (route.match.method, None):
            first = seen.get((route.match.path, method))
            if first is not None:
                message = f"never reached: routes[{first}] takes the same calls"
                yield Finding(("routes", index, "match"), message, severity="warning")
                break
        seen.setdefault((route.match.path, route.match.method), index)


def _unreachable_upstreams(config: Config) -> Iterator[Finding]:
    named = {route.upstream for route in config.routes}
    spoken: dict[ProtocolName, str] = {}
    for name, upstream in config.upstreams.items():
        if not upstream.takes_calls:
            continue
        first = spoken.setdefault(upstream.protocol, name)
        if first != name and name not in named:
            what = "routes" if PROTOCOLS[upstream.protocol].routes else "catch-all"
            message = f"no call gets here: {first} takes the {what} of {upstream.protocol}; name it in routes"
            yield Finding(("upstreams", name), message, severity="warning")


def _contradicting_globs(config: Config) -> Iterator[Finding]:
    globs = Globs(config.models)
    for glob in config.models:
        merged = ModelConfig()
        for each in globs.matching(glob):
            top = config.models[each]
            combined = overlay(merged, top)
            if each == glob and combined is top and combined != merged:
                message = "contradicts what it inherits from less specific globs, so it inherits nothing"
                yield Finding(("models", glob), message, severity="warning")
            merged = combined


def _waits(config: Config) -> Iterator[Finding]:
    shortest = min(upstream.timeouts.first_byte for upstream in config.upstreams.values())
    for glob, model in config.models.items():
        if "max_wait" in model.batch.model_fields_set and model.batch.max_wait >= shortest:
            message = (
                f"waiting {format_duration(model.batch.max_wait)} for company is no less than an upstream's "
                f"timeouts.first_byte ({format_duration(shortest)})"
            )
            yield Finding(("models", glob, "batch", "max_wait"), message, severity="warning")


def _open_admin(config: Config) -> Iterator[Finding]:
    address = config.server.admin.listen
    if not address.is_loopback:
        message = f"{address} can be reached from other machines: metrics and status are readable by them"
        yield Finding(("server", "admin", "listen"), message, severity="warning")


def _loading(config: Config) -> Iterator[Finding]:
    loading = config.loading
    upstream = loading.control.upstream
    if upstream and upstream not in config.upstreams:
        near = closest(upstream, config.upstreams) or ", ".join(config.upstreams)
        yield Finding(("loading", "control", "upstream"), f"no upstream is named {upstream}", near)
    for name, model in loading.models.items():
        if loading.budget and model.size is not None and model.size > loading.budget:
            message = f"{name} is larger than the budget for all models: it can never be loaded"
            yield Finding(("loading", "models", name, "size"), message)
        if loading.control.protocol == "replay" and model.warmup is None:
            message = "loading by replay sends the model's warm-up request, and there is none"
            yield Finding(("loading", "models", name), message)
