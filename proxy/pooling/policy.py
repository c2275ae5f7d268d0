"""What an operator says about the connections to one upstream (YAML: ``upstreams.<name>``)."""

from __future__ import annotations

from pydantic import Field

from proxy.config.fields import Duration, Policy

__all__ = ("GrpcPoolPolicy", "HttpPoolPolicy", "TimeoutPolicy")


class HttpPoolPolicy(Policy):
    """The HTTP/1.1 connections to one endpoint."""

    max: int = Field(default=100, ge=1, le=10_000)
    """Open connections, busy and idle together, per endpoint."""
    idle: Duration = 30.0
    """Span after which an unused connection is closed."""
    connect: Duration = 1.0
    """Span allowed for one dial."""
    wait: Duration = 3.0
    """Span a call may wait for a connection to become free."""
    queue: int = Field(default=1024, ge=0)
    """Calls that may wait for a connection at once, per endpoint."""


class GrpcPoolPolicy(Policy):
    """The HTTP/2 channels to one gRPC endpoint."""

    min: int = Field(default=5, ge=1, le=1000)
    """Channels opened with the first call and kept, per endpoint."""
    max: int = Field(default=50, ge=1, le=1000)
    """Channels open at once, per endpoint."""
    streams: int = Field(default=80, ge=1)
    """Calls on the least loaded channel at which another one is opened."""
    idle: Duration = 1800.0
    """Span after which an unused channel beyond `min` is closed."""
    max_age: Duration = 3600.0
    """Span after which a channel takes no new calls and is replaced, give or take a tenth."""
    connect: Duration = 1.0
    """Span allowed for one dial."""
    wait: Duration = 3.0
    """Span a call may wait for a channel with room."""
    queue: int = Field(default=1024, ge=0)
    """Calls that may wait for a channel at once, per endpoint."""


class TimeoutPolicy(Policy):
    """How long an upstream may keep a call waiting."""

    first_byte: Duration = 60.0
    """Span from the sent request to the first byte of its answer."""
    idle: Duration = 300.0
    """Longest silence within an answer."""
