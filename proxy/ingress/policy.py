"""What an operator says about the listeners (YAML: ``limits``, ``timeouts``, ``drain``, ``auth``,
``forwarding`` and ``trusted_proxies`` of ``server``, and the ``tls`` of a listener)."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from proxy.config.fields import Duration, Policy, Size
from proxy.ingress.certificates import check_name

__all__ = (
    "AuthPolicy",
    "DrainPolicy",
    "ForwardingPolicy",
    "LimitPolicy",
    "ServerTimeoutPolicy",
    "ServerTlsPolicy",
    "TrustedProxy",
)


class LimitPolicy(Policy):
    """Bounds on what clients may send, per listener."""

    body: Size = 32 << 20
    """Bytes in one request body; more is answered 413 before the upstream sees anything."""
    message: Size = 0
    """Bytes that one message of a gRPC request may have; more is answered RESOURCE_EXHAUSTED. `0B`: any
    number, since messages are relayed piece by piece."""
    inflight: int = Field(default=1024, ge=1)
    """Calls admitted at once over all listeners; more are answered 429."""
    connections: int = Field(default=10_000, ge=1)
    """Client connections of the listener at once; more are answered 503 and closed."""
    target: Size = 8 << 10
    """Bytes of one request target; a longer one is answered 414."""
    buffered: Size = 256 << 20
    """Bytes of bodies held in memory over all calls; when they are reached, new calls are answered 503."""
    headers: int = Field(default=100, ge=1)
    """Header fields in one request; more are answered 431."""
    header_line: Size = 8 << 10
    """Bytes of one header field, its name included; a longer one is answered 431."""
    header_bytes: Size = 64 << 10
    """Bytes of one request's head; a longer one is answered 431."""
    body_rate: Size = 240
    """Bytes per second that one request body must bring on average once it has taken 5 seconds; a slower
    one is answered 408."""


class ServerTimeoutPolicy(Policy):
    """How long a client may keep its connection without progress."""

    header: Duration = 10.0
    """Span from a connection's opening to the end of its TLS handshake, or else to its first byte, and from
    the first byte of a request head to its last, however the bytes are spread."""
    body_stall: Duration = 30.0
    """Longest silence within one request body."""
    keepalive: Duration = 75.0
    """Span an idle client connection is kept open."""
    ping: Duration = 60.0
    """Silence of an HTTP/2 client with calls in progress after which it is sent a PING, and after which, as
    long again, it is given up; `0s` means never."""
    write_stall: Duration = 60.0
    """Span in which a client takes nothing of its answer before its connection is aborted."""


class DrainPolicy(Policy):
    """How the proxy leaves (YAML: ``server.drain``)."""

    ready_lag: Duration = 0.0
    """Span between failing readiness and refusing new connections, per shutdown."""
    grace: Duration = 25.0
    """Span after `ready_lag` in which admitted requests may still be answered, per shutdown."""


def _key_digest(text: str) -> str:
    digest = text.removeprefix("sha256:").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("expected the SHA-256 of a key in 64 hexadecimal digits (printf %s KEY | sha256sum)")
    return digest


def _network(text: str) -> str:
    if text != "unix":
        ip_network(text)  # ValueError says what is wrong with it
    return text


KeyDigest = Annotated[str, AfterValidator(_key_digest)]
"""SHA-256 of an API key in hexadecimal, with or without ``sha256:`` before it."""

TrustedProxy = Annotated[str, AfterValidator(_network)]
"""An address or CIDR such as `10.0.0.0/8`, or `unix` for whoever comes over a Unix socket."""


ClientName = Annotated[str, AfterValidator(check_name)]
"""A name in client certificates: `dns:NAME`, `dns:*.DOMAIN`, `uri:URI` or `uri:URI/*`."""


class AuthPolicy(Policy):
    """Who may call (YAML: ``server.auth``)."""

    keys: tuple[KeyDigest, ...] = ()
    """SHA-256 of each accepted `Authorization: Bearer` key; none: no authentication. The key is not
    forwarded."""
    rate: float = Field(default=0.0, ge=0)
    """Calls per second for each key, and as many at once; more are answered with 429. 0: no bound."""
    inflight: int = Field(default=0, ge=0)
    """Calls in flight for each key; more are answered with 429. 0: no bound."""


class ForwardingPolicy(Policy):
    """What is said to the next hop about this one (YAML: ``server.forwarding``)."""

    via: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "auto"
    """Name of this proxy in `Via`, by which it knows a request that comes round again: `auto` makes a name
    for each process, `off` adds none."""
    identity_headers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+\*?$")], ...] = (
        "X-Auth-Request-*",
        "X-Authenticated-*",
        "X-Remote-*",
        "Remote-User",
        "X-Real-IP",
        "X-Client-Cert*",
        "X-SSL-Client-*",
        "X-Original-URL",
        "X-Rewrite-URL",
    )
    """Field names (a final `*` is any rest) by which a trusted proxy tells who the caller is: removed, like
    `Forwarded` and `X-Forwarded-*`, from requests that no trusted proxy sent."""
    client_cert: bool = False
    """Whether `X-Forwarded-Client-Cert` tells the backend which certificate the client has shown (`Hash`,
    `Subject`, `URI`, `DNS`). One that a stranger sends is removed in any case."""
    paths: Literal["exact", "strict"] = "exact"
    """`exact` forwards every target byte for byte; `strict` refuses those that servers are known to read in
    two ways: dot segments, `//`, `;`, a backslash, an encoded slash, NUL or overlong UTF-8."""


class ServerTlsPolicy(Policy):
    """TLS on a listener (YAML: ``server.http.tls``); files are read again when they change."""

    cert: str
    """PEM file: the certificate and its chain."""
    key: str
    """PEM file: the private key."""
    client_ca: str = ""
    """PEM file: the authorities of client certificates; none: clients show no certificate."""
    client_certs: Literal["required", "optional"] = "required"
    """Whether a client may come without a certificate, where `client_ca` is set."""
    client_names: tuple[ClientName, ...] = ()
    """Names of which a client certificate must have one, as subject alternative name: `dns:NAME`,
    `dns:*.DOMAIN` (one label), `uri:URI` or `uri:URI/*` (any path below). Calls of a client with another
    certificate are answered 403, over gRPC PERMISSION_DENIED. None: any certificate of `client_ca` is
    accepted."""

    @model_validator(mode="after")
    def _names_need_an_authority(self) -> Self:
        if self.client_names and not self.client_ca:
            raise ValueError("client_names needs client_ca, by which client certificates are verified")
        return self
