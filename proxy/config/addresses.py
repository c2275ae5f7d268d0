"""Where to listen and where to connect, as values: what `fields` is for numbers, this is for addresses.

Both are parsed once, when the YAML is read, so that nothing behind the configuration splits strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from proxy.config.fields import Written
from proxy.pooling.endpoint import Endpoint, parse_endpoint

__all__ = ("Address", "GrpcAddress", "L4Address", "ListenAddress", "UpstreamUrl", "parse_address")

_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
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

    @property
    def is_wildcard(self) -> bool:
        """True when it is every interface of this machine."""
        return not self.path and self.host in {"", "0.0.0.0", "::"}  # noqa: S104  recognised here, not bound

    def collides(self, other: Address) -> bool:
        """True when the two cannot be bound at once; port 0 lets the kernel choose and never collides."""
        if self.path or other.path:
            return self.path == other.path
        if self.port == 0 or self.port != other.port:
            return False
        return self.host == other.host or self.is_wildcard or other.is_wildcard


def parse_address(value: object) -> Address:
    """The `Address` of ``127.0.0.1:8080``, ``[::1]:8080``, ``:8080`` or ``unix:/path``; else ValueError."""
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        if value.startswith("unix:"):
            return Address("", 0, _socket_path(value.removeprefix("unix:")))
        match = _HOST_PORT.fullmatch(value)
        if match is not None:
            return Address(match[1] or match[2] or "", _port(int(match[3]), least=0))
    raise ValueError("expected host:port or unix:/path, such as 127.0.0.1:8080")


def _endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    endpoint = parse_endpoint(str(value))
    if endpoint.path:
        _socket_path(endpoint.path)
    else:
        _port(endpoint.port, least=1)
        if not _HOST.fullmatch(endpoint.host):
            raise ValueError(f"{value!r}: no such host")
    return endpoint


def _grpc_endpoint(value: object) -> Endpoint:
    if isinstance(value, str) and _HOST_PORT.fullmatch(value):
        return _endpoint(f"http://{value}")
    return _endpoint(value)


def _l4_endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    text = str(value)
    if text.startswith("unix:"):
        return _endpoint(text)
    if not _HOST_PORT.fullmatch(text):
        raise ValueError(
            f"{text!r}: expected host:port or unix:/path; TLS, if there is any, goes through as it is"
        )
    return _endpoint(f"http://{text}")._replace(url=text)


def _socket_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("a Unix socket needs an absolute path, such as unix:/run/pillion.sock")
    if len(path.encode()) > _LONGEST_UNIX_PATH:
        raise ValueError(f"a Unix socket's path holds at most {_LONGEST_UNIX_PATH} bytes")
    return path


def _port(port: int, least: int) -> int:
    if not least <= port <= 65_535:
        raise ValueError(f"a port is a number from {least} to 65535")
    return port


def _url(endpoint: Endpoint) -> str:
    return endpoint.url


ListenAddress = Annotated[
    Address,
    Written("address"),
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8080", "unix:/run/pillion.sock"]}),
]
"""Where a listener binds: ``host:port`` or ``unix:/path``."""

UpstreamUrl = Annotated[
    Endpoint,
    Written("url"),
    PlainValidator(_endpoint),
    PlainSerializer(_url, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["http://127.0.0.1:8000", "unix:/run/model.sock"]}),
]
"""One server of an upstream. A path would have no place to go: request targets are forwarded as they came."""

GrpcAddress = Annotated[
    Endpoint,
    Written("address"),
    PlainValidator(_grpc_endpoint),
    PlainSerializer(_url, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8001", "unix:/run/model-grpc.sock"]}),
]
"""A server's gRPC port: ``host:port``, ``https://host:port`` or ``unix:/path``."""

L4Address = Annotated[
    Endpoint,
    Written("address"),
    PlainValidator(_l4_endpoint),
    PlainSerializer(_url, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:5432", "unix:/run/model.sock"]}),
]
"""A server's port of which only the bytes matter: ``host:port`` or ``unix:/path``."""
