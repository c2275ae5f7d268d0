"""Listening at one place: a TCP port, or a Unix socket's path, which is taken from nobody.

A process that was killed leaves its socket behind as a file; the event loop would remove any socket it finds
at the path, in use or not, and the other process would never hear of a client again. So the path is tried
first: a socket that refuses connections is nobody's and is removed, one that takes them is somebody's.

Owned by the server of its protocol, which ends it. Waits for nothing but the event loop, and at a path for
one connection attempt to itself.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.config.addresses import Address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ("Listener", "UnixSocket")

_SHORT_S: Final = 1.0
_BACKLOG: Final = 4096


class Listener:
    """Accepts connections at `place`, each with a protocol that `accept` makes."""

    def __init__(self, place: Address, accept: Callable[[], asyncio.BaseProtocol]) -> None:
        self._place = place
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._unix: UnixSocket | None = None

    async def open(self, context: ssl.SSLContext | None = None, handshake_s: float | None = None) -> Address:
        """Bind and accept; with `context` over TLS, whose handshakes have to end within `handshake_s`.

        Returns the place with the port that the kernel chose. OSError when it cannot be had.
        """
        loop, place = asyncio.get_running_loop(), self._place
        timeout = handshake_s if context is not None else None
        if place.path:
            self._unix = UnixSocket(place.path)
            self._server = await loop.create_unix_server(
                self._accept,
                sock=self._unix.socket,
                backlog=_BACKLOG,
                ssl=context,
                ssl_handshake_timeout=timeout,
            )
            return place
        self._server = await loop.create_server(
            self._accept,
            place.host or None,
            place.port,
            backlog=_BACKLOG,
            ssl=context,
            ssl_handshake_timeout=timeout,
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """Accept nothing new."""
        if self._server is not None:
            self._server.close()

    def remove(self) -> None:
        """Accept nothing new, and leave no socket file behind."""
        self.close()
        if self._unix is not None:
            self._unix.remove()


class UnixSocket:
    """A listening place at `path`; `socket` is bound there once made.

    Raises OSError when something else is there, or somebody listens.
    """

    def __init__(self, path: str) -> None:
        _remove_stale(path)
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(path)
        except OSError as error:
            self.socket.close()
            raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror}") from error
        self.socket.settimeout(0)
        self._inode = Path(path).stat().st_ino

    def remove(self) -> None:
        """Remove the file, unless somebody else has put another in its place."""
        with suppress(FileNotFoundError):
            if Path(self._path).stat().st_ino == self._inode:
                Path(self._path).unlink()


def _remove_stale(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(Path(path).stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, f"cannot listen on unix:{path}: the path is something else than a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_SHORT_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, f"cannot listen on unix:{path}: another process listens there")
