"""TLS in front of a listener: 1.2 and later, client certificates if wanted, files that may change at any
time.

A listener is given one `ssl.SSLContext` for good. Its server-name callback, which runs for every handshake
with or without a name, hands each connection over to the context made of the files as they are now, so that
a renewed certificate or authority needs no restart and touches no open connection.

A resumed session is as old as the authorities that verified it. TLS 1.3 clients that show certificates are
given no tickets, so that each handshake verifies anew; a session that TLS 1.2 resumes counts only when its
certificate was also verified by the authorities of now.

Until its handshake is done a connection is the event loop's, and none of the listener's. So handshakes are
counted here, where each begins: a client that never finishes one counts like any other, and is refused before
its first byte where there is no room (`room`).

`TlsFront` is owned by its listener, which calls `refresh` now and then; it waits for nothing.
"""

from __future__ import annotations

import logging
import math
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from proxy.ingress.certificates import AcceptedNames, ClientCertificate, read_certificate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.ingress.forwarding import Hop
    from proxy.ingress.policy import ServerTlsPolicy
    from proxy.ingress.rules import HeadRules

__all__ = ("TlsFront", "certificate_of", "hop_of", "server_name_of")

log = logging.getLogger(__name__)

# Forward secrecy and authenticated encryption only; TLS 1.3 brings its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MOST_VERIFIED: Final = 65536  # certificates, 64 bytes each
# Clients beyond the most that may connect whose handshake is finished all the same, to tell them 503.
_TOLD: Final = 32


class _Doorway(ssl.SSLContext):
    """The context to listen with, which knows whose it is."""

    front: TlsFront


class _ServerSide(ssl.SSLObject):
    """One connection's TLS, with the name that its client asked for."""

    asked_for: str | None = None
    has_begun = False

    def do_handshake(self) -> None:
        """Begin the handshake or go on with it; ssl.SSLError where there is no room for one more."""
        context = self.context
        if not self.has_begun and isinstance(context, _Doorway):
            self.has_begun = True
            context.front.admit(self)
        super().do_handshake()


def server_name_of(ssl_object: object) -> bytes | None:
    """The server name in the handshake of `ssl_object`, in lower case; None when there was none."""
    name = ssl_object.asked_for if isinstance(ssl_object, _ServerSide) else None
    return None if name is None else name.lower().encode()


def certificate_of(ssl_object: object) -> ClientCertificate | None:
    """The client's certificate in the handshake of `ssl_object`; None when it has shown none."""
    der = ssl_object.getpeercert(binary_form=True) if isinstance(ssl_object, ssl.SSLObject) else None
    if not isinstance(ssl_object, ssl.SSLObject) or der is None:
        return None
    try:
        fields = ssl_object.getpeercert() or {}
    except ValueError:  # a name that is no text
        fields = {}
    return read_certificate(fields, der)


def hop_of(
    transport: asyncio.BaseTransport, rules: HeadRules, tls: TlsFront | None, before: Hop | None = None
) -> Hop:
    """What `rules` make of the connection of `transport`, which came in through `tls`; `before` is what other
    rules made of it."""
    peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    ssl_object = transport.get_extra_info("ssl_object")
    certificate = certificate_of(ssl_object)
    hop = rules.hop(
        peer[0].encode() if isinstance(peer, tuple) else b"unix:",
        scheme=b"https" if ssl_object is not None else b"http",
        port=here[1] if isinstance(here, tuple) else 0,
        server_name=server_name_of(ssl_object),
        certificate=certificate,
    )
    if before is not None:
        hop.is_accepted = before.is_accepted
    elif tls is not None:
        tls.shaking.discard(ssl_object)
        hop.is_accepted = certificate is None or tls.accepts(certificate, ssl_object)
    return hop


class TlsFront:
    """The context to listen with (`context`), kept in step with the files of `policy`; offers `alpn` only.

    `room` says how many more connections the listener may have; `shaking` are those that are none of its yet,
    their handshakes going on. Raises OSError or ssl.SSLError when the files cannot be used at the start.
    """

    def __init__(
        self, policy: ServerTlsPolicy, *, alpn: str = "http/1.1", room: Callable[[], float] = lambda: math.inf
    ) -> None:
        self._policy = policy
        self._alpn = alpn
        self._room = room
        self.shaking: WeakSet[ssl.SSLObject] = WeakSet()
        self._names = AcceptedNames(policy.client_names)
        self._verified: set[bytes] = set()  # digests of certificates, by the authorities of now
        self._paths = tuple(Path(path) for path in (policy.cert, policy.key, policy.client_ca) if path)
        self._stamps = self._read_stamps()
        self._current = self._load()
        self.context = _Doorway(ssl.PROTOCOL_TLS_SERVER)
        self.context.front = self
        self._furnish(self.context)
        self.context.sni_callback = self._greet

    def refresh(self) -> None:
        """Use the files as they are now; unusable ones leave the old certificate in service."""
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._current = self._load()
            self._verified.clear()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.warning(
                "the TLS files have changed and cannot be used; the old ones stay in service: %s", error
            )
        else:
            log.info("the TLS files have changed and are in use")

    def admit(self, connection: ssl.SSLObject) -> None:
        """Count a handshake that begins; raises ssl.SSLError when it is one too many."""
        if len(self.shaking) >= self._room() + _TOLD:
            raise ssl.SSLError("too many client connections")
        self.shaking.add(connection)

    def accepts(self, certificate: ClientCertificate, connection: ssl.SSLObject) -> bool:
        """Whether a client that has shown `certificate` on `connection` may call."""
        if connection.session_reused:
            if certificate.digest not in self._verified:
                return False
        elif connection.context is self._current and len(self._verified) < _MOST_VERIFIED:
            self._verified.add(certificate.digest)
        return self._names.accept(certificate)

    def _read_stamps(self) -> tuple[tuple[int, int, int], ...]:
        stats = [path.stat() for path in self._paths]  # through links: a mounted secret is swapped by one
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in stats)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._furnish(context)
        return context

    def _furnish(self, context: ssl.SSLContext) -> None:
        policy = self._policy
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols([self._alpn])
        context.sslobject_class = _ServerSide
        context.load_cert_chain(policy.cert, policy.key)
        if policy.client_ca:
            context.load_verify_locations(policy.client_ca)
            is_required = policy.client_certs == "required"
            context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
            context.num_tickets = 0
        if Path(policy.key).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("the TLS key %s can be read by others than its owner", policy.key)

    def _greet(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current
        if isinstance(connection, _ServerSide):
            connection.asked_for = name
