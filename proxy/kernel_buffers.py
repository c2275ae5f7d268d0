"""How much the kernel may hold of a body in transit, on either side of this process.

Left alone, TCP grows its buffers to many megabytes on a fast path (measured: a backend ran 9.6 MB ahead of a
client that had stopped reading). That memory is invisible to watermarks and to cgroup-aware people alike, and
bytes in it are bytes that a model computed for nobody. Two bounds are enough:

* towards the reader, ``TCP_NOTSENT_LOWAT``: the kernel accepts no more once this much waits unsent. What is
  on its way is not limited, so a distant reader keeps its bandwidth. A reader that has shown to be fast is
  worth more: with little unsent each wake-up moves little (measured on loopback: a fifth of the throughput);
* from the producer, ``SO_RCVBUF``: the window that a paused source may still fill.

Sockets without these options (Unix sockets, other systems) keep their own, smaller defaults.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

__all__ = (
    "FOR_ALL",
    "FOR_THE_FAST",
    "FROM_AFAR",
    "bound_receiving",
    "bound_sending",
    "report_waiting",
    "unacknowledged",
)

FOR_ALL: Final = 128 << 10
FOR_THE_FAST: Final = 2 << 20  # a reader that takes so much within 10 ms
_FROM_NEARBY: Final = 128 << 10  # a backend on this host or next to it: throughput did not suffer
FROM_AFAR: Final = 256 << 10  # a client, whose window must cover its round trip
_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)


def bound_sending(transport: asyncio.BaseTransport, size: int = FOR_ALL) -> None:
    """Let the kernel hold little that it has not sent yet: `size` bytes."""
    sock = transport.get_extra_info("socket")
    if sock is not None and _LOWAT is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # the peer may be gone already
            sock.setsockopt(socket.IPPROTO_TCP, _LOWAT, size)


def bound_receiving(transport: asyncio.BaseTransport, size: int = _FROM_NEARBY) -> None:
    """Let the kernel receive little while nobody reads: `size` bytes and as much again of its own."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def report_waiting(transport: asyncio.WriteTransport) -> None:
    """Have `transport` say as soon as bytes wait in it, and again when none do.

    One over TCP reports what is above its mark, one over TLS what reaches it: with a mark of 0 that one would
    be full when it is empty, and for ever if nothing more was written to it.
    """
    is_tls = transport.get_extra_info("ssl_object") is not None
    transport.set_write_buffer_limits(high=1 if is_tls else 0, low=0)


def unacknowledged(transport: asyncio.WriteTransport) -> int:
    """Bytes written to `transport` that its peer has not acknowledged."""
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            size += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return size
