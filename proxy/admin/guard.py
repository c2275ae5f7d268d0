"""Who may do what on the admin port.

The port is on loopback by default, and loopback is not a wall: a web page open on the same machine can make
its browser send requests there. Two tricks matter.

* *DNS rebinding*: a name of the attacker's resolves to 127.0.0.1, so the page may read what it fetches. The
  browser still sends that name in ``Host``. From a local peer only addresses and ``localhost`` are therefore
  accepted as ``Host``; a name is nothing a local client needs.
* *Cross-site requests*: a form or script posts to http://127.0.0.1:9901/drain without reading the answer.
  Browsers then send ``Origin`` (or ``Sec-Fetch-Site: cross-site``), which must be our own.

Reading is otherwise free, because whoever binds the port to more than loopback does so for a scraper.
Changing needs a local peer, or the token where one is configured; with a token, local peers need it as well,
since on a shared host "local" is everybody. A Unix socket's peer has no address and counts as local: the
file's permissions decide.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

__all__ = ("Guard", "Visit")

_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Visit:
    """What the guard needs to know of a request; header values are empty when absent.

    `peer` is the client's IP address, empty on a Unix socket.
    """

    method: str
    peer: str
    host: str = ""
    origin: str = ""
    fetch_site: str = ""
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one admin listener; an empty `token` means that none is configured."""

    token: str = ""

    def refusal(self, visit: Visit) -> str | None:
        """Why the request is refused (403), or None when it may pass."""
        reads = visit.method in _READS
        local = _is_local(visit.peer)
        if visit.host and (local or not reads) and not _is_plain_host(visit.host):
            return "Host must be an IP address or localhost"
        return None if reads else self._refused_change(visit, is_local=local)

    def _refused_change(self, visit: Visit, *, is_local: bool) -> str | None:
        if visit.fetch_site not in {"", "same-origin", "none"}:
            return "changes are not accepted from other sites"
        if visit.origin and visit.origin.lower() not in _origins(visit.host):
            return "Origin is not this server"
        if self.token:
            given = visit.authorization.encode(errors="surrogateescape")  # headers may hold any byte
            wanted = f"Bearer {self.token}".encode()
            return None if hmac.compare_digest(given, wanted) else "a bearer token is needed"
        return None if is_local else "without a token, changes are accepted from loopback only"


def _origins(host: str) -> tuple[str, str]:
    """The origins that a page served from `host` can have."""
    return f"http://{host.lower()}", f"https://{host.lower()}"


def _is_local(peer: str) -> bool:
    if not peer:
        return True
    address = ip_address(peer.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _is_plain_host(host: str) -> bool:
    """Whether a ``Host`` value is an address or localhost, whatever its port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ip_address(name)
    except ValueError:
        return host.rpartition(":")[0].lower() == "localhost" or host.lower() == "localhost"
    return True
