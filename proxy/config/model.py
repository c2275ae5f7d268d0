"""The whole configuration as one immutable value, composed of the policies that the rooms define.

A room that gains something to configure defines a policy struct beside the logic that obeys it and adds one
line here. Nothing else needs to know: the loader, the schema, the reference, `dump` and the suggestions for
misspelt keys all read the structs themselves.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from proxy.batching.policy import BatchPolicy
from proxy.caching.policy import CachePolicy, StorePolicy
from proxy.config.addresses import Address, GrpcAddress, L4Address, ListenAddress, UpstreamUrl
from proxy.config.fields import Policy, Secret, SecretText
from proxy.config.globs import Globs, check_glob
from proxy.config.presets import ProtocolName
from proxy.ingress.policy import (
    AuthPolicy,
    DrainPolicy,
    ForwardingPolicy,
    LimitPolicy,
    ServerTimeoutPolicy,
    ServerTlsPolicy,
    TrustedProxy,
)
from proxy.loading.policy import LoadingPolicy
from proxy.pooling.policy import UpstreamPolicy
from proxy.routing.policy import RoutePolicy
from proxy.streaming.policy import StreamPolicy
from proxy.telemetry.policy import AccessLogPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "AdminConfig",
    "Config",
    "GrpcConfig",
    "HttpConfig",
    "L4Config",
    "ModelConfig",
    "ObserveConfig",
    "ServerConfig",
    "UpstreamConfig",
)


class HttpConfig(Policy):
    """The HTTP/1.1 data listener."""

    listen: ListenAddress = Address("127.0.0.1", 8080)
    """Where clients connect: `host:port` (port 0: any free one) or `unix:/path`."""
    tls: ServerTlsPolicy | None = None
    """TLS on this listener; none: plain HTTP."""


class GrpcConfig(Policy):
    """The HTTP/2 data listener: gRPC, and plain requests over HTTP/2 with prior knowledge."""

    listen: ListenAddress = Address("127.0.0.1", 8081)
    """Where clients connect: `host:port` (port 0: any free one) or `unix:/path`. Bound when this section is
    written or an upstream has `grpc`."""
    tls: ServerTlsPolicy | None = None
    """Certificate to serve TLS with; none: clients come without TLS, with prior knowledge."""


class L4Config(Policy):
    """A listener that passes bytes on and looks at none of them."""

    listen: ListenAddress
    """Where clients connect: `host:port` (port 0: any free one) or `unix:/path`."""
    upstream: str
    """The upstream whose `l4` endpoints they reach."""


class AdminConfig(Policy):
    """The admin listener: health, metrics, status."""

    listen: ListenAddress = Address("127.0.0.1", 9901)
    """Where operators and probes connect: `host:port` or `unix:/path`."""
    token: SecretText | None = None
    """Bearer token without which nothing can be changed; with none, changes are accepted from this machine
    only."""

    @field_validator("token")
    @classmethod
    def _not_empty(cls, token: Secret | None) -> Secret | None:
        """An empty file must not open the port to everybody on the machine."""
        if token is not None and not token.reveal():
            raise ValueError("the token is empty")
        return token


class ServerConfig(Policy):
    """What faces the clients."""

    http: HttpConfig = HttpConfig()
    grpc: GrpcConfig = GrpcConfig()
    l4: tuple[L4Config, ...] = ()
    """Listeners for upstreams that need nothing of the proxy: TCP, and whatever TLS is in it, goes through
    untouched."""
    admin: AdminConfig = AdminConfig()
    limits: LimitPolicy = LimitPolicy()
    timeouts: ServerTimeoutPolicy = ServerTimeoutPolicy()
    drain: DrainPolicy = DrainPolicy()
    auth: AuthPolicy = AuthPolicy()
    forwarding: ForwardingPolicy = ForwardingPolicy()
    trusted_proxies: tuple[TrustedProxy, ...] = ()
    """Addresses and CIDRs whose `X-Forwarded-*`, `Forwarded` and identity fields are believed; `unix` is
    whoever comes over a Unix socket."""


class UpstreamConfig(UpstreamPolicy):
    """A model server, or several equal ones."""

    protocol: ProtocolName = "generic"
    """What it speaks: decides what each path means, which can be batched, and how errors are spelt."""
    http: tuple[UpstreamUrl, ...] = ()
    """Its endpoints: `http://host:port`, `https://host:port` or `unix:/path`."""
    grpc: tuple[GrpcAddress, ...] = ()
    """Its gRPC endpoints: `host:port`, `https://host:port` or `unix:/path`."""
    l4: tuple[L4Address, ...] = ()
    """Endpoints whose bytes nobody looks at, reached through `server.l4`: `host:port` or `unix:/path`."""
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\[\]-]+$")] = "preserve"
    """`Host` field sent upstream: `preserve` the client's, the `upstream`'s own authority, or this fixed
    name."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.takes_calls and not self.l4:
            raise ValueError("an upstream needs at least one endpoint, in http, grpc or l4")
        return self

    @property
    def takes_calls(self) -> bool:
        """Whether calls can be routed to it."""
        return bool(self.http or self.grpc)


class ModelConfig(Policy):
    """What applies to the models that a glob matches."""

    fallback: tuple[str, ...] = ()
    """Models that may answer in place of one that cannot be loaded in time: the first that is ready does."""
    batch: BatchPolicy = BatchPolicy()
    stream: StreamPolicy = StreamPolicy()
    cache: CachePolicy = CachePolicy()


class ObserveConfig(Policy):
    """What is recorded."""

    access_log: AccessLogPolicy = AccessLogPolicy()


_REMEMBERED_NAMES = 1024

UpstreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
ModelGlob = Annotated[str, AfterValidator(check_glob)]


class Config(Policy):
    """Everything that an operator can say."""

    version: Literal[1]
    """Version of this format; always 1."""
    server: ServerConfig = ServerConfig()
    upstreams: Annotated[dict[UpstreamName, UpstreamConfig], Field(min_length=1)]
    """Model servers by name; the names are metric labels."""
    routes: tuple[RoutePolicy, ...] = ()
    """Routes asked before the protocols' own; the first match wins."""
    models: dict[ModelGlob, ModelConfig] = Field(default_factory=lambda: {"*": ModelConfig()})
    """Settings by model name, where `*` and `?` are wildcards. The most specific glob wins and inherits the
    rest."""
    cache: StorePolicy = StorePolicy()
    loading: LoadingPolicy = LoadingPolicy()
    """When models are loaded, kept and evicted."""
    observe: ObserveConfig = ObserveConfig()

    @field_validator("models", mode="after")
    @classmethod
    def _with_least_specific(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        return models if "*" in models else models | {"*": ModelConfig()}

    @property
    def serves_http2(self) -> bool:
        """Whether the HTTP/2 listener is wanted: it is written, or somebody behind it speaks gRPC."""
        is_written = "grpc" in self.server.model_fields_set
        return is_written or any(upstream.grpc for upstream in self.upstreams.values())

    @cached_property
    def _globs(self) -> Globs:
        return Globs(self.models)

    def globs_of(self, model: str) -> tuple[str, ...]:
        """The globs whose settings apply to `model`, least specific first."""
        return self._globs.matching(model)

    @cached_property
    def _merged(self) -> dict[tuple[str, ...], ModelConfig]:
        return {}

    @cached_property
    def model_policy(self) -> Callable[[str], ModelConfig]:
        """What applies to a model by name: the most specific glob's fields over those of less specific ones.

        Values that contradict what they would inherit (``least`` above an inherited ``most``) stand alone.
        The names come from clients, so only so many answers are kept.
        """
        return lru_cache(maxsize=_REMEMBERED_NAMES)(self._policy_of)

    def _policy_of(self, name: str) -> ModelConfig:
        matching = self._globs.matching(name)
        merged = self._merged.get(matching)  # one entry for each set of globs, however many names there are
        if merged is None:
            merged = ModelConfig()
            for glob in matching:
                merged = overlay(merged, self.models[glob])
            self._merged[matching] = merged
        return merged


def overlay(base: ModelConfig, top: ModelConfig) -> ModelConfig:
    """`base` with every field that was set in `top`; `top` alone where the two contradict each other."""
    try:
        return ModelConfig.model_validate(
            _merge(base.model_dump(exclude_unset=True), top.model_dump(exclude_unset=True))
        )
    except ValueError:
        return top


def _merge(base: dict[str, object], top: dict[str, object]) -> dict[str, object]:
    merged = base | top
    for key, below in base.items():
        above = top.get(key)
        if isinstance(below, dict) and isinstance(above, dict):
            merged[key] = _merge(below, above)
    return merged
