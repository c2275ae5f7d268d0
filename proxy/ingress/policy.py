"""What an operator says about the listener (YAML: ``limits``, ``timeouts`` and ``drain`` of ``server``)."""

from __future__ import annotations

from pydantic import Field

from proxy.config.fields import Duration, Policy, Size

__all__ = ("DrainPolicy", "LimitPolicy", "ServerTimeoutPolicy")


class LimitPolicy(Policy):
    """Bounds on what clients may send, per listener."""

    body: Size = 32 << 20
    """Bytes in one request body; more is answered 413 before the upstream sees anything."""
    inflight: int = Field(default=1024, ge=1)
    """Calls admitted at once over all listeners; more are answered 429."""
    headers: int = Field(default=100, ge=1)
    """Header fields in one request."""
    header_bytes: Size = 64 << 10
    """Bytes of one request's head."""


class ServerTimeoutPolicy(Policy):
    """How long a client may keep its connection without progress."""

    keepalive: Duration = 75.0
    """Span an idle client connection is kept open."""
    write_stall: Duration = 60.0
    """Span a client may take nothing of its answer."""


class DrainPolicy(Policy):
    """How the proxy leaves (YAML: ``server.drain``)."""

    ready_lag: Duration = 0.0
    """Span between failing readiness and refusing new connections, per shutdown."""
    grace: Duration = 25.0
    """Span after `ready_lag` in which admitted requests may still be answered, per shutdown."""
