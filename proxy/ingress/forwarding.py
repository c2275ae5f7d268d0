"""What this hop tells the next one, and what it does not believe from the one before (pure).

Theory of operation
-------------------
A request has a history that only headers tell: who sent it (`X-Forwarded-*`, `Forwarded`), through whom it
came (`Via`), to which trace it belongs (`traceparent`), how it is called in logs (`X-Request-Id`). Anybody
can write such headers, and backends take decisions on them. So the history is believed only from a peer
that the operator trusts, and is then continued; from anyone else it is replaced by what this proxy saw
itself. `Via` and the trace grant nothing and are continued for everybody.

`Hop` is what is known of one client connection. Its rules and fields do not change while the connection
lasts, so a connection that repeats its head pays for all of this once.

`X-Forwarded-For` is one comma-separated field after this, because many readers look at one line only. A
peer on a Unix socket has no address and is ``unknown`` (RFC 7239 §6.2).
"""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from proxy.errors import LoopDetected

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from proxy.exchange import Headers
    from proxy.ingress.policy import ForwardingPolicy

__all__ = (
    "FORWARDED",
    "Hop",
    "Strangers",
    "check_loop",
    "forwarded_fields",
    "is_request_id",
    "read_request_id",
    "read_trace",
    "trace_of",
)

FORWARDED: Final = frozenset(
    (
        b"forwarded",
        b"x-forwarded-client-cert",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    )
)
"""Fields that every hop writes anew."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)
_DIGITS: Final = bytes(
    ord("x") if octet in b"0123456789abcdef" else ord("-") if octet == ord("-") else 0 for octet in range(256)
)
_SHAPE: Final = b"-".join(b"x" * size for size in (2, 32, 16, 2))
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_FOR: Final = re.compile(rb'(?i)(?:^|[;,])[ \t]*for=("\[[0-9a-f:.]+\](?=[":])|[0-9a-f.]+)')
_UNKNOWN: Final = b"unknown"

Noted = dict[bytes, list[bytes]]
"""Values of the fields that mean something to this hop, by lower-case name."""


class Hop:
    """One client connection: `peer` is its address in text (or ``unix:``), `port` the local port (0: none),
    `server_name` what the TLS handshake asked for (None: nothing). `certificate` is the name in the client's
    certificate (empty: it has shown none), `told` what the backend is told of it; `is_accepted` is False when
    that name is not among those who may call. `hosts` remembers the `Host` that was last found good, and
    `written` what was last written anew, and for which host."""

    __slots__ = (
        "certificate",
        "hosts",
        "is_accepted",
        "is_trusted",
        "peer",
        "port",
        "scheme",
        "server_name",
        "told",
        "written",
    )

    def __init__(
        self,
        peer: bytes,
        *,
        scheme: bytes = b"http",
        port: int = 0,
        is_trusted: bool = False,
        server_name: bytes | None = None,
    ) -> None:
        self.peer = peer
        self.scheme = scheme
        self.port = port
        self.is_trusted = is_trusted
        self.server_name = server_name
        self.certificate = b""
        self.hosts: list[bytes] = []
        self.told = b""
        self.is_accepted = True
        self.written: tuple[bytes, Headers] | None = None


class Strangers:
    """Tells trusted peers from strangers, and which fields a stranger may not send."""

    __slots__ = ("_has_unix", "_names", "_networks", "_prefixes")

    def __init__(self, trusted: Iterable[str], policy: ForwardingPolicy) -> None:
        trusted = tuple(trusted)
        self._has_unix = "unix" in trusted
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(text) for text in trusted if text != "unix"
        ]
        names = [name.lower().encode() for name in policy.identity_headers]
        self._names = frozenset(name for name in names if not name.endswith(b"*"))
        self._prefixes = (b"x-forwarded-", *(name[:-1] for name in names if name.endswith(b"*")))

    def trusts(self, peer: bytes) -> bool:
        """True when what `peer` says about others is believed."""
        if peer == b"unix:":
            return self._has_unix
        return bool(self._networks) and self._trusts_address(peer)

    def _trusts_address(self, text: bytes) -> bool:
        address = ip_address(text.decode("latin-1").partition("%")[0])  # ValueError for what is none
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def client(self, noted: Noted) -> bytes:
        """The address nearest to us that no trusted proxy has, as trusted proxies have passed it on; empty
        when they say none. What stands before the first stranger's address is that stranger's word."""
        chain = _tokens_of(noted.get(b"x-forwarded-for", ())) or [
            match[1].strip(b'"[]') for match in _FOR.finditer(b",".join(noted.get(b"forwarded", ())))
        ]
        found = b""
        for address in reversed(chain):
            try:
                is_trusted = self._trusts_address(address)
            except ValueError:
                return found
            found = address
            if not is_trusted:
                break
        return found

    def may_not_say(self, lower: bytes) -> bool:
        """True when the field `lower` is for trusted peers to send."""
        return lower in self._names or lower.startswith(self._prefixes)


def _tokens_of(values: Iterable[bytes]) -> list[bytes]:
    return [
        token for token in (part.strip(b" \t") for value in values for part in value.split(b",")) if token
    ]


def forwarded_fields(hop: Hop, host: bytes, noted: Noted) -> Headers:
    """`X-Forwarded-*` and `Forwarded` as they go on: continued from a trusted peer, else written anew."""
    if hop.is_trusted and not FORWARDED.isdisjoint(noted):
        return _continued(hop, host, noted)
    if hop.written is None or hop.written[0] != host:
        hop.written = host, _continued(hop, host, {})
    return hop.written[1]


def _continued(hop: Hop, host: bytes, said: Mapping[bytes, list[bytes]]) -> Headers:
    peer = _UNKNOWN if hop.peer == b"unix:" else hop.peer
    fields = [
        (b"X-Forwarded-For", b", ".join([*said.get(b"x-forwarded-for", ()), peer])),
        (b"X-Forwarded-Proto", b", ".join(said.get(b"x-forwarded-proto", ())) or hop.scheme),
    ]
    named = b", ".join(said.get(b"x-forwarded-host", ())) or host
    if named:
        fields.append((b"X-Forwarded-Host", named))
    port = b", ".join(said.get(b"x-forwarded-port", ())) or (b"%d" % hop.port if hop.port else b"")
    if port:
        fields.append((b"X-Forwarded-Port", port))
    shown = [*said.get(b"x-forwarded-client-cert", ()), *([hop.told] if hop.told else ())]
    if shown:
        fields.append((b"X-Forwarded-Client-Cert", b",".join(shown)))
    fields.append((b"Forwarded", b", ".join([*said.get(b"forwarded", ()), _element(hop, peer, host)])))
    return tuple(fields)


def _element(hop: Hop, peer: bytes, host: bytes) -> bytes:
    node = b'"[%b]"' % peer if b":" in peer else peer
    named = b';host="%b"' % host if host else b""
    return b"for=%b%b;proto=%b" % (node, named, hop.scheme)


def check_loop(values: Iterable[bytes], name: bytes) -> None:
    """Raise `LoopDetected` when one of the `Via` values names this proxy."""
    for value in values:
        for member in value.split(b","):
            if member.split()[1:2] == [name]:
                raise LoopDetected("the request has passed this proxy before")


def read_request_id(values: list[bytes] | None) -> bytes:
    """The client's name for its request, or empty when it gave none that is safe to repeat."""
    if values is not None and len(values) == 1 and is_request_id(values[0]):
        return values[0]
    return b""


def is_request_id(value: bytes) -> bool:
    """True for a name that is safe to repeat in logs and answers."""
    return _REQUEST_ID.fullmatch(value) is not None


def read_trace(values: list[bytes] | None) -> tuple[bytes, bytes] | None:
    """What comes before and after our span id in `traceparent`; None when a new trace has to begin.

    Of a later version only what version 00 knows is kept (W3C Trace Context §3.2.4).
    """
    return trace_of(values[0]) if values is not None and len(values) == 1 else None


def trace_of(value: bytes) -> tuple[bytes, bytes] | None:
    """`read_trace` of the only value."""
    if (  # nearly all: version 00, and nothing that it does not allow
        value.translate(_DIGITS) == _SHAPE
        and value[:2] == b"00"
        and value[3:35] != _NO_TRACE
        and value[36:52] != _NO_SPAN
    ):
        return value[:36], value[52:]
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, flags, more = match.groups()
    if more and version == b"00":
        return None
    return b"00-" + trace_id + b"-", b"-" + flags
