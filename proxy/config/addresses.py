"""Where to listen and where to connect: ``host:port``, ``unix:/path`` and ``http://host:port`` as values.

Both kinds are parsed once, when the YAML is read, so that nothing behind the configuration splits strings.
A URL names an origin only: Pillion forwards request targets byte for byte, so a path, query or user name in
the URL would have no place to go and is refused rather than dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from proxy.config.fields import Written

__all__ = ("Address", "Endpoint", "ListenAddress", "UpstreamUrl", "parse_address", "parse_endpoint")

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_UNIX_PATH = 107  # sockaddr_un.sun_path on Linux holds 108 bytes with the final NUL


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen: a Unix socket when `path` is set, else TCP; an empty `host` is every interface."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it."""
        return bool(self.path) or self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def collides(self, other: Address) -> bool:
        """True when the two cannot be bound at once; port 0 lets the kernel choose and never collides."""
        if self.path or other.path:
            return self.path == other.path
        if self.port == 0 or self.port != other.port:
            return False
        return self.host == other.host or _is_wildcard(self.host) or _is_wildcard(other.host)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of an upstream: scheme with host and port, or a Unix socket `path` spoken to in plain HTTP."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The ``Host`` field value that names this endpoint: without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def _is_wildcard(host: str) -> bool:
    return host in {"", "0.0.0.0", "::"}  # noqa: S104  recognised here, not bound


def parse_address(value: object) -> Address:
    """The `Address` of ``127.0.0.1:8080``, ``[::1]:8080``, ``:8080`` or ``unix:/path``; ValueError
    otherwise."""
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        if value.startswith("unix:"):
            return Address("", 0, _unix_path(value))
        match = _HOST_PORT.fullmatch(value)
        if match is not None:
            return Address(match[1] or match[2] or "", _port(int(match[3])))
    raise ValueError("expected host:port or unix:/path, such as 127.0.0.1:8080")


def parse_endpoint(value: object) -> Endpoint:
    """The `Endpoint` of ``http://host:port``, ``https://host`` or ``unix:/path``; ValueError otherwise."""
    if isinstance(value, Endpoint):
        return value
    if not isinstance(value, str):
        _bad_url("expected a URL")
    if value.startswith("unix:"):
        return Endpoint("http", "localhost", 80, _unix_path(value))
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in _DEFAULT_PORTS:
        _bad_url("not a known scheme")
    return _origin(value, "https" if scheme == "https" else "http")


def _origin(url: str, scheme: Literal["http", "https"]) -> Endpoint:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _bad_url("no such port or host")
    if not parts.hostname or not re.fullmatch(r"[A-Za-z0-9._:-]+", parts.hostname):
        _bad_url("the host is missing or malformed")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        _bad_url("only scheme, host and port belong here (targets are forwarded unchanged)")
    return Endpoint(scheme, parts.hostname, _DEFAULT_PORTS[scheme] if port is None else _port(port, least=1))


def _unix_path(value: str) -> str:
    path = value.removeprefix("unix:")
    if not path.startswith("/"):
        raise ValueError("a Unix socket needs an absolute path, such as unix:/run/pillion.sock")
    if len(path.encode()) > _LONGEST_UNIX_PATH:
        raise ValueError(f"a Unix socket path holds at most {_LONGEST_UNIX_PATH} bytes")
    return path


def _port(port: int, least: int = 0) -> int:
    if not least <= port <= 65_535:
        raise ValueError(f"a port is a number from {least} to 65535")
    return port


def _bad_url(why: str) -> NoReturn:
    raise ValueError(f"{why}: write http://host:port, https://host:port or unix:/path")


ListenAddress = Annotated[
    Address,
    Written("address"),
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8080", "unix:/run/pillion.sock"]}),
]
"""Where a listener binds."""

UpstreamUrl = Annotated[
    Endpoint,
    Written("url"),
    PlainValidator(parse_endpoint),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["http://127.0.0.1:8000", "unix:/run/model.sock"]}),
]
"""One server of an upstream."""
