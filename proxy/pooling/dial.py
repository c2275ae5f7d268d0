"""Opening transports to one endpoint: names, addresses, TLS, socket options.

Owned by a pool; used by its dial tasks and by the prober. It resolves the endpoint's name itself, again after
`_RESOLVE_EVERY_S` and after a dial that failed everywhere, and tells the pool which addresses are gone, so
that connections follow a name that moves. A dial waits for the name, the TCP handshake and TLS, all within
one span, and tries one address after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

from proxy.errors import ConnectFailed, ConnectTimeout
from proxy.pooling.addresses import AddressBook

if TYPE_CHECKING:
    import ssl

    from proxy.pooling.endpoint import Endpoint
    from proxy.timing import Clock

__all__ = ("Dialer",)

P = TypeVar("P")
_Make = Callable[[], asyncio.Protocol]

_RESOLVE_EVERY_S: Final = 30.0
_TCP_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),  # ms that sent bytes may stay unacknowledged
)


class Dialer:
    """Dials `endpoint`; `on_gone` hears of addresses that its name no longer stands for."""

    __slots__ = ("_book", "_clock", "_endpoint", "_is_name", "_resolve_at", "_server_name", "_tls", "on_gone")

    def __init__(
        self, endpoint: Endpoint, clock: Clock, tls: ssl.SSLContext | None = None, *, server_name: str = ""
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._tls = tls if endpoint.is_tls else None
        self._server_name = (server_name or endpoint.host) if self._tls is not None else None
        self._book = AddressBook()
        self._is_name = not _is_numeric(endpoint.host)
        self._resolve_at = -math.inf
        self.on_gone: Callable[[frozenset[str]], None] | None = None
        if not self._is_name:
            self._book.replace([endpoint.host])

    async def dial(self, protocol: Callable[[], P], timeout_s: float) -> tuple[P, str]:
        """A connected protocol and the address that it goes to (empty for a unix socket).

        `protocol` makes an `asyncio.Protocol`, though perhaps not by name: compiled ones have no such base.
        Raises `ConnectFailed` or, after `timeout_s`, `ConnectTimeout`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._endpoint.path:
                    loop, make = asyncio.get_running_loop(), cast("_Make", protocol)
                    return cast("P", (await loop.create_unix_connection(make, self._endpoint.path))[1]), ""
                if self._is_name and self._clock.now() >= self._resolve_at:
                    await self._resolve()
                return await self._dial_any(protocol, timeout_s)
        except TimeoutError as error:
            raise ConnectTimeout(
                f"{self._endpoint.url} did not accept a connection within {timeout_s:g} s"
            ) from error
        except OSError as error:
            self._resolve_at = -math.inf
            raise ConnectFailed(f"{self._endpoint.url}: {error.strerror or error}") from error

    async def _dial_any(self, protocol: Callable[[], P], timeout_s: float) -> tuple[P, str]:
        order = self._book.order()
        for address in order[:-1]:
            # An address that swallows packets must leave time for the others.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(timeout_s / len(order)):
                    return await self._dial_one(protocol, address)
        return await self._dial_one(protocol, order[-1])

    async def _dial_one(self, protocol: Callable[[], P], address: str) -> tuple[P, str]:
        is_open = False
        try:
            transport, connected = await asyncio.get_running_loop().create_connection(
                cast("_Make", protocol),
                address,
                self._endpoint.port,
                ssl=self._tls,
                server_hostname=self._server_name,
            )
            is_open = True
        finally:
            self._book.dialed(address, is_open=is_open)
        _set_options(transport.get_extra_info("socket"))
        return cast("P", connected), address

    async def _resolve(self) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM
        )
        self._resolve_at = self._clock.now() + _RESOLVE_EVERY_S
        gone = self._book.replace([str(sockaddr[0]) for *_, sockaddr in found])
        if gone and self.on_gone is not None:
            self.on_gone(gone)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _set_options(sock: socket.socket) -> None:
    for level, name, value in _TCP_OPTIONS:
        option = getattr(socket, name, None)  # some are Linux only
        if option is not None:
            with contextlib.suppress(OSError):  # the peer may be gone already
                sock.setsockopt(level, option, value)
