"""Binding a listener to a Unix socket's path without taking it from anybody.

A process that was killed leaves its socket behind as a file; the event loop would remove any socket it finds
at the path, in use or not, and the other process would never hear of a client again. So the path is tried
first: a socket that refuses connections is nobody's and is removed, one that takes them is somebody's.

Owned by the listener that calls it; waits for nothing but the one connection attempt to itself.
"""

from __future__ import annotations

import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ("UnixSocket",)

_SHORT_S = 1.0


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
