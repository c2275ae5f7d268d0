"""Opening a transport to an endpoint, with the socket options that a pooled connection wants.

Called by a pool's dial tasks; waits for the name, the TCP handshake and TLS, all within one span.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.errors import ConnectFailed, ConnectTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pooling.endpoint import Endpoint

__all__ = ("dial",)

P = TypeVar("P", bound=asyncio.Protocol)

_TCP_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),  # ms that sent bytes may stay unacknowledged
)


async def dial(endpoint: Endpoint, protocol: Callable[[], P], timeout_s: float) -> P:
    """A connected protocol. Raises `ConnectFailed` or, after `timeout_s`, `ConnectTimeout`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if endpoint.path:
                transport, connected = await loop.create_unix_connection(protocol, endpoint.path)
            else:
                transport, connected = await loop.create_connection(protocol, endpoint.host, endpoint.port)
    except TimeoutError as error:
        raise ConnectTimeout(f"{endpoint.url} did not accept a connection within {timeout_s:g} s") from error
    except OSError as error:
        raise ConnectFailed(f"{endpoint.url}: {error.strerror or error}") from error
    if not endpoint.path:
        _set_options(transport.get_extra_info("socket"))
    return connected


def _set_options(sock: socket.socket) -> None:
    for level, name, value in _TCP_OPTIONS:
        option = getattr(socket, name, None)  # some are Linux only
        if option is not None:
            with contextlib.suppress(OSError):  # the peer may be gone already
                sock.setsockopt(level, option, value)
