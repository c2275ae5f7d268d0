"""Where a backend listens: ``http://host:port``, ``https://host:port`` or ``unix:/path``."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ("Endpoint", "parse_endpoint")


class Endpoint(NamedTuple):
    """One address to dial. `path` is a socket's path, or empty for TCP."""

    url: str
    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> bytes:
        """The ``Host`` field that this endpoint expects."""
        if self.path:
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.is_tls else 80
        return (host if self.port == default else f"{host}:{self.port}").encode()


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint that `url` names; ValueError says what is wrong with it."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{url!r}: a unix socket needs an absolute path, such as unix:/run/model.sock")
        return Endpoint(url, "", 0, path, is_tls=False)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r}: expected http://host:port, https://host:port or unix:/path")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: an endpoint is a scheme, a host and a port, nothing else")
    is_tls = parts.scheme == "https"
    return Endpoint(url, parts.hostname, parts.port or (443 if is_tls else 80), "", is_tls)
