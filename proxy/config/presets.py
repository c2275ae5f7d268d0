"""The protocols that Pillion knows, as data: their paths, what each is for, how each is batched.

A preset describes a published protocol, never one server: what a path means, not how fast it is. Whatever a
preset does not list is still forwarded, by its final catch-all, so an unlisted path costs a feature and
never an answer.

`routes_of` turns a configuration into the one ordered list that the route table obeys:

1. the operator's routes, in file order. Such a route says where a call goes and how long it may take; what
   the call *is* still comes from the protocol, so each is paired with every route of its upstream's
   protocol first and stands alone (kind ``other``) last;
2. the protocols' routes, upstream after upstream in file order;
3. one catch-all, to the first ``generic`` upstream if there is one and else to the first upstream.

Sources: KServe V1 (``/v1/models/{model}:predict``), the Open Inference Protocol (``/v2/…``, with the model
repository extension), the OpenAI REST paths that inference servers share. RFC 9110 §9.2.2 says which methods
are idempotent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from proxy.routing.policy import Kind, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.model import Config

__all__ = ("PROTOCOLS", "Dialect", "Protocol", "ProtocolName", "protocol_routes", "routes_of")

ProtocolName = Literal["kserve-v1", "open-inference", "openai", "generic"]
Dialect = Literal["kserve", "openai"]
"""How a protocol spells an error: ``{"error": "…"}`` or ``{"error": {"message": "…", …}}``."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One path of a protocol."""

    name: str
    method: str
    path: str
    kind: Kind
    codec: str | None = None
    idempotent: bool = True

    @property
    def rule(self) -> Rule:
        """What the path matches."""
        return Rule((self.method,), self.path)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is known of a protocol: paths in matching order, where health is asked, how errors are spelt.

    `health_path` None means that an accepted connection is all the health there is to see.
    """

    routes: tuple[Preset, ...]
    health_path: str | None
    dialect: Dialect


def _open_inference_model(base: str) -> tuple[Preset, ...]:
    """The paths below one model; the protocol repeats them below a version."""
    return (
        Preset("infer", "POST", f"{base}/infer", "infer", "open_inference"),
        Preset("generate", "POST", f"{base}/generate", "infer"),
        Preset("generate_stream", "POST", f"{base}/generate_stream", "stream"),
        Preset("model_ready", "GET", f"{base}/ready", "health"),
        Preset("model_config", "GET", f"{base}/config", "metadata"),
        Preset("model_stats", "GET", f"{base}/stats", "other"),
        Preset("model_metadata", "GET", base, "metadata"),
    )


_KSERVE_V1 = (
    Preset("predict", "POST", "/v1/models/{model}:predict", "infer", "kserve_v1"),
    Preset("explain", "POST", "/v1/models/{model}:explain", "infer"),
    Preset("model_list", "GET", "/v1/models", "metadata"),
    Preset("model_metadata", "GET", "/v1/models/{model}", "metadata"),
)

_OPEN_INFERENCE = (
    *_open_inference_model("/v2/models/{model}"),
    *_open_inference_model("/v2/models/{model}/versions/{version}"),
    Preset("live", "GET", "/v2/health/live", "health"),
    Preset("ready", "GET", "/v2/health/ready", "health"),
    Preset("server_metadata", "GET", "/v2", "metadata"),
    Preset("repository_index", "POST", "/v2/repository/index", "metadata"),
    Preset("repository_load", "POST", "/v2/repository/models/{model}/load", "control", idempotent=False),
    Preset("repository_unload", "POST", "/v2/repository/models/{model}/unload", "control", idempotent=False),
)

_OPENAI = (
    Preset("embeddings", "POST", "/v1/embeddings", "infer"),
    Preset("chat_completions", "POST", "/v1/chat/completions", "stream"),
    Preset("completions", "POST", "/v1/completions", "stream"),
    Preset("model_list", "GET", "/v1/models", "metadata"),
    Preset("model_metadata", "GET", "/v1/models/{model}", "metadata"),
)

PROTOCOLS: dict[ProtocolName, Protocol] = {
    "kserve-v1": Protocol(_KSERVE_V1, "/v1/models", "kserve"),
    "open-inference": Protocol(_OPEN_INFERENCE, "/v2/health/ready", "kserve"),
    "openai": Protocol(_OPENAI, "/v1/models", "openai"),
    "generic": Protocol((), None, "kserve"),
}

_IDEMPOTENT_METHODS = ("GET", "OPTIONS", "PUT", "DELETE", "TRACE")  # RFC 9110 §9.2.2; GET includes HEAD


def protocol_routes(upstream: str, protocol: ProtocolName) -> tuple[Route, ...]:
    """The routes that `upstream` gets from its protocol, without the catch-all."""
    return tuple(
        Route(
            name=f"{protocol}/{preset.name}",
            upstream=upstream,
            protocol=protocol,
            kind=preset.kind,
            rules=(preset.rule,),
            codec=preset.codec,
            idempotent=preset.idempotent,
        )
        for preset in PROTOCOLS[protocol].routes
    )


def routes_of(config: Config) -> tuple[Route, ...]:
    """Every route of `config`, in the order in which they are to be tried."""
    return (*_operator_routes(config), *_preset_routes(config), *_catch_all(config))


def _operator_routes(config: Config) -> Iterator[Route]:
    for policy in config.routes:
        protocol = config.upstreams[policy.upstream].protocol
        rule = Rule(() if policy.match.method is None else (policy.match.method,), policy.match.path)
        timeout_s = math.inf if policy.timeout is None else policy.timeout
        for route in protocol_routes(policy.upstream, protocol):
            yield replace(route, name=rule.path, rules=(rule, *route.rules), timeout_s=timeout_s)
        yield from _by_method(
            Route(rule.path, policy.upstream, protocol, "other", (rule,), timeout_s=timeout_s)
        )


def _preset_routes(config: Config) -> Iterator[Route]:
    for name, upstream in config.upstreams.items():
        if upstream.takes_calls:
            yield from protocol_routes(name, upstream.protocol)


def _catch_all(config: Config) -> Iterator[Route]:
    names = [name for name, upstream in config.upstreams.items() if upstream.takes_calls]
    if not names:
        return
    generic = [name for name in names if config.upstreams[name].protocol == "generic"]
    upstream = (generic or names)[0]
    protocol = config.upstreams[upstream].protocol
    yield from _by_method(Route(f"{protocol}/other", upstream, protocol, "other", (Rule((), "*"),)))


def _by_method(route: Route) -> tuple[Route, Route]:
    """`route` for the methods that may be repeated, and for the others."""
    return replace(route, rules=(*route.rules, Rule(_IDEMPOTENT_METHODS, "*")), idempotent=True), route
