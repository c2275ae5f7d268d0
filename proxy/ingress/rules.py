"""Everything that is decided about a request before it is served, compiled once for a listener (pure).

`HeadRules` only joins the policies with what obeys them; a reload builds another one. It is asked once for
each connection (`hop`) and once for each head that a connection has not just sent already
(`proxy.ingress.head`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.errors import BadRequest, Forbidden, Misdirected
from proxy.ingress.auth import KeyRing
from proxy.ingress.forwarding import Hop, Strangers
from proxy.ingress.grammar import twin_of
from proxy.ingress.policy import AuthPolicy, ForwardingPolicy, LimitPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.exchange import Headers
    from proxy.ingress.certificates import ClientCertificate

__all__ = ("IDENTITY", "ORDINARY", "HeadRules", "may_trail")

ORDINARY: Final = b""
"""The place of a field that goes on as it came."""
IDENTITY: Final = b"\0"
"""The place of a field that only a trusted proxy may send."""

_AMBIGUOUS: Final = re.compile(
    rb"/\.{1,2}(?:/|$)|//|[;\\]|%(?:2[Ff]|5[Cc]|00|2[Ee]|[Cc][01]|[Ee]0%[89]|[Ff]0%8)|/[^/]*\.(?:/|$)"
)

# RFC 9110 §6.5.1: they frame, route, authorise or describe their message, or belong to one hop.
_NOT_IN_TRAILERS: Final = frozenset(
    b"""authorization cache-control connection content-encoding content-length content-range content-type
    cookie expect forwarded host keep-alive max-forwards proxy-authorization proxy-connection range te
    trailer transfer-encoding upgrade via x-request-id traceparent tracestate""".split()
)


def may_trail(name: bytes) -> bool:
    """True when the field `name` changes nothing about its message by coming after the body."""
    return twin_of(name) not in _NOT_IN_TRAILERS


class HeadRules:
    """What one listener asks of its clients' requests.

    `via` is the name for `Via` (empty: none is added): an operator's own, or `name` where the policy says
    ``auto``. `places` remembers, by a field's name as it is spelt, what is to be done with it: `ORDINARY`,
    `IDENTITY` or its name in lower case, for those that mean something to this hop.
    """

    __slots__ = ("_is_strict", "_tells_certificate", "keys", "limits", "places", "strangers", "via")

    def __init__(
        self,
        limits: LimitPolicy,
        *,
        auth: AuthPolicy | None = None,
        forwarding: ForwardingPolicy | None = None,
        trusted: Iterable[str] = (),
        name: str = "pillion",
    ) -> None:
        forwarding = forwarding or ForwardingPolicy()
        self.limits = limits
        self.keys = KeyRing(auth.keys if auth is not None else ())
        self.strangers = Strangers(trusted, forwarding)
        self.places: dict[bytes, bytes] = {}
        self.via = {"auto": name, "off": ""}.get(forwarding.via, forwarding.via).encode()
        self._is_strict = forwarding.paths == "strict"
        self._tells_certificate = forwarding.client_cert

    def hop(
        self,
        peer: bytes,
        *,
        scheme: bytes,
        port: int,
        server_name: bytes | None = None,
        certificate: ClientCertificate | None = None,
    ) -> Hop:
        """What these rules make of a connection."""
        is_trusted = self.strangers.trusts(peer)
        hop = Hop(peer, scheme=scheme, port=port, is_trusted=is_trusted, server_name=server_name)
        if certificate is not None:
            hop.certificate = certificate.name
            hop.told = certificate.element if self._tells_certificate else b""
        return hop

    @staticmethod
    def check_client(hop: Hop) -> None:
        """Refuse a client whose certificate names nobody who may call."""
        if not hop.is_accepted:
            raise Forbidden("the client certificate is not accepted here")

    def check_target(self, target: bytes) -> None:
        """Refuse a target that a backend may read otherwise than a route does, where the operator wants
        that."""
        if self._is_strict and _AMBIGUOUS.search(target.partition(b"?")[0]):
            raise BadRequest("the request target is ambiguous")

    def trailers_of(self, hop: Hop, trailers: Headers) -> Headers:
        """`trailers` less those that would change how their message is framed, routed or who it is from, and
        less what their sender may not say: a field that is refused in a head comes in by no other door."""
        kept = [pair for pair in trailers if may_trail(pair[0])]
        if not hop.is_trusted:
            kept = [pair for pair in kept if not self.strangers.may_not_say(twin_of(pair[0]))]
        return tuple(kept)

    def check_server_name(self, hop: Hop, host: bytes) -> None:
        """Refuse a host other than the one whose certificate was shown (RFC 9110 §7.4).

        A handshake never has the dot that may end a name (RFC 6066 §3).
        """
        name = hop.server_name
        if host and name is not None and host.lower().partition(b":")[0].removesuffix(b".") != name:
            raise Misdirected("this connection was opened for another host")
