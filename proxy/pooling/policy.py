"""What an operator says about the connections to one upstream (YAML: ``upstreams.<name>``)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from proxy.config.fields import Duration, Policy, Share

__all__ = (
    "ConcurrencyPolicy",
    "EjectPolicy",
    "GrpcPoolPolicy",
    "HealthPolicy",
    "HedgePolicy",
    "HttpPoolPolicy",
    "L4PoolPolicy",
    "PoolPolicy",
    "RetryPolicy",
    "TimeoutPolicy",
    "TlsPolicy",
    "UpstreamPolicy",
)


class HttpPoolPolicy(Policy):
    """The HTTP/1.1 connections to one endpoint, per worker process."""

    min: int = Field(default=10, ge=0, le=10_000)
    """Spare connections kept open once the endpoint is healthy; never more than `max`."""
    max: int = Field(default=100, ge=1, le=10_000)
    """Open connections, busy and idle together."""
    idle: Duration = 30.0
    """Span after which an unused connection is closed; shortened when the backend is seen to close
    earlier."""
    max_age: Duration = 600.0
    """Span after which a connection is replaced, spread by 10 % either way; `0s` means never."""
    max_requests: int = Field(default=0, ge=0)
    """Requests after which a connection is replaced; 0 means never."""
    connect: Duration = 1.0
    """Span allowed for one dial, TLS included."""
    wait: Duration = 3.0
    """Span a call may wait for a connection to become free."""
    stall: Duration = 0.5
    """Span in which a client takes nothing of its answer, or sends nothing of its request, before its
    connection may be taken from it for a call that finds all `max` in use; the slowest loses it first."""
    queue: int = Field(default=1024, ge=0)
    """Calls that may wait for a connection at once."""
    warm_with: str = Field(default="", pattern=r"^(/\S*)?$")
    """Path fetched once on each spare connection, for backends that close connections on which nothing was
    ever sent; empty: nothing is sent."""


class GrpcPoolPolicy(Policy):
    """The HTTP/2 channels to one gRPC endpoint, per worker process."""

    min: int = Field(default=5, ge=1, le=1000)
    """Channels opened with the first call and kept."""
    max: int = Field(default=50, ge=1, le=1000)
    """Channels open at once."""
    streams: int = Field(default=80, ge=1)
    """Calls on the least loaded channel at which another one is opened."""
    idle: Duration = 1800.0
    """Span after which an unused channel beyond `min` is closed."""
    max_age: Duration = 3600.0
    """Span after which a channel takes no new calls and is replaced, give or take a tenth."""
    connect: Duration = 1.0
    """Span allowed for one dial."""
    ping: Duration = 60.0
    """Silence on a channel with calls after which the backend is sent a PING, and after which, as long again,
    the channel is given up; `0s` means never."""
    wait: Duration = 3.0
    """Span a call may wait for a channel with room."""
    queue: int = Field(default=1024, ge=0)
    """Calls that may wait for a channel at once."""


class L4PoolPolicy(Policy):
    """The connections to one `l4` endpoint, one for each client, per worker process."""

    max: int = Field(default=1024, ge=1)
    """Connections open at once; a client beyond is closed."""
    connect: Duration = 1.0
    """Span allowed for one dial."""
    idle: Duration = 3600.0
    """Span in which neither side sends anything after which both are closed."""


class PoolPolicy(Policy):
    """Connections to each endpoint of an upstream, by protocol."""

    http: HttpPoolPolicy = HttpPoolPolicy()
    grpc: GrpcPoolPolicy = GrpcPoolPolicy()
    l4: L4PoolPolicy = L4PoolPolicy()


class TimeoutPolicy(Policy):
    """How long an upstream may keep a call waiting."""

    first_byte: Duration = 60.0
    """Span from the sent request to the first byte of its answer."""
    idle: Duration = 300.0
    """Longest silence within an answer."""


class HealthPolicy(Policy):
    """Active probes, per endpoint, on a connection of their own."""

    every: Duration = 30.0
    """Span between probes of a healthy endpoint, spread by 10 % either way; `0s` turns probing off. A
    starting or failing one is probed every 50 ms at first, more and more slowly up to 1 s."""
    timeout: Duration = 2.0
    """Span allowed for one probe."""
    fall: int = Field(default=3, ge=1)
    """Failed probes in a row after which an endpoint is down."""
    rise: int = Field(default=1, ge=1)
    """Successful probes in a row after which it is up again."""
    path: str = Field(default="auto", pattern=r"^(auto|tcp|/\S*)$")
    """Path to GET: 2xx and 3xx are healthy. `auto` asks where the protocol keeps its health and takes a path
    that does not exist for healthy; `tcp` only connects."""


class EjectPolicy(Policy):
    """Passive ejection, per endpoint."""

    consecutive: int = Field(default=5, ge=0)
    """Failed calls in a row after which an endpoint gets no more; 0 means never. An answer below 500 is never
    a failure; a 5xx is one only where another endpoint could do better."""
    base: Duration = 5.0
    """Span of the first ejection; each further one doubles it."""
    max: Duration = 60.0
    """Longest span of an ejection."""


class RetryPolicy(Policy):
    """When a failed call is sent again."""

    attempts: int = Field(default=2, ge=1, le=10)
    """Tries per call, the first one included."""
    budget: Share = 0.2
    """Retries of what the backend may have worked on, as a share of the recent calls; ten per second are
    always allowed, and a burst when a backend dies."""
    idempotent: Literal["auto", "always", "never"] = "auto"
    """Which calls may be executed twice: those whose method or known inference path says so, all, or none."""


class ConcurrencyPolicy(Policy):
    """The adaptive limit on calls in flight, per endpoint; calls above it wait for a connection."""

    mode: Literal["off", "adaptive"] = "off"
    """`adaptive` lowers the limit while answers take longer than they used to."""
    least: int = Field(default=4, ge=1)
    """Calls in flight that are always allowed."""
    most: int = Field(default=200, ge=1)
    """Calls in flight that are never exceeded."""

    @model_validator(mode="after")
    def _least_fits(self) -> Self:
        if self.least > self.most:
            raise ValueError("least is above most")
        return self


class HedgePolicy(Policy):
    """A second copy of a slow idempotent call, sent to another endpoint; the first answer wins."""

    mode: Literal["off", "p95"] = "off"
    """`p95` sends the copy when a call takes longer than 95 % of the calls before it."""
    share: Share = 0.05
    """Extra calls, as a share of all calls."""


class TlsPolicy(Policy):
    """How `https://` endpoints are verified, and how Pillion identifies itself to them."""

    ca: str = ""
    """File with the certificate authorities to trust; empty: the system's."""
    cert: str = ""
    """File with the client certificate chain."""
    key: str = ""
    """File with the client certificate's key; empty: in `cert`."""
    server_name: str = ""
    """Name expected in the backend's certificate and sent as SNI; empty: the endpoint's host."""
    verify: bool = True
    """False accepts any certificate: for experiments only."""


class UpstreamPolicy(Policy):
    """Everything about reaching one upstream."""

    pool: PoolPolicy = PoolPolicy()
    health: HealthPolicy = HealthPolicy()
    eject: EjectPolicy = EjectPolicy()
    retry: RetryPolicy = RetryPolicy()
    timeouts: TimeoutPolicy = TimeoutPolicy()
    concurrency: ConcurrencyPolicy = ConcurrencyPolicy()
    hedge: HedgePolicy = HedgePolicy()
    tls: TlsPolicy = TlsPolicy()
