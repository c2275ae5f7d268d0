"""Is the client still there? What the kernel knows about the other end of a connection.

A FIN says only that the client will send no more. A client that half-closed waits for its answer; one that
closed is gone, and whatever is done for it is waste. The bytes of the two are the same. But a sidecar's
clients are mostly on its own machine, and there the kernel knows both ends:

* Of a TCP peer in the same network namespace, socket diagnostics (``NETLINK_SOCK_DIAG``, no privilege needed)
  tell whether a process still holds its socket: one that was closed has no inode any more. About 20 µs.
* Of a Unix socket's peer, ``poll`` reports ``POLLHUP`` when it closed and ``POLLRDHUP`` when it half-closed.
* A reset shows as ``POLLERR`` or ``POLLHUP`` on any socket, even while nobody reads from it.

Of a peer on another machine nothing is known, and the answer is ``unknown``.

`PeerProbe` is owned by a listener; it never waits, and ends with `close`.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket
    from collections.abc import Sequence

__all__ = ("Glance", "PeerProbe", "PeerState")

PeerState = Literal["here", "gone", "unknown"]
Glance = Literal["open", "half-closed", "broken"]

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = 1  # NLM_F_REQUEST
_ERROR: Final = 2  # NLMSG_ERROR
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = b"\xff" * 8
_HEADER: Final = struct.Struct("=IHHII")
_QUESTION: Final = struct.Struct("=BBBBI")
_PORTS: Final = struct.Struct("!HH16s16s")
_INODE_AT: Final = _HEADER.size + 4 + 48 + 16  # nlmsghdr, four bytes, inet_diag_sockid, four counters


class PeerProbe:
    """Asks the kernel about peers."""

    __slots__ = ("_netlink",)

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None

    def state(self, sock: TransportSocket) -> PeerState:
        """What has become of the process at the other end of `sock`."""
        if self.glance(sock) == "broken":
            return "gone"
        if sock.family == socket.AF_UNIX:
            return "here"
        return self._ask(sock)

    def glance(self, sock: TransportSocket) -> Glance:
        """What has reached this end of `sock`, even while nobody reads from it; 1 µs."""
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLRDHUP)  # errors and hang-ups are told unasked
        events = poll.poll(0)
        if not events:
            return "open"
        return "broken" if events[0][1] & (select.POLLERR | select.POLLHUP) else "half-closed"

    def close(self) -> None:
        """Ask no more."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask(self, sock: TransportSocket) -> PeerState:
        ours, theirs = sock.getsockname(), sock.getpeername()
        try:
            if self._netlink is None:
                self._netlink = socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _SOCK_DIAG
                )
                self._netlink.connect((0, 0))
            self._netlink.send(_question(sock.family, theirs, ours))
            answer = self._netlink.recv(1024)
        except OSError:
            return "unknown"  # no such kernel interface here
        kind = _HEADER.unpack_from(answer)[1]
        if kind == _ERROR:
            is_missing = struct.unpack_from("=i", answer, _HEADER.size)[0] == -errno.ENOENT
            # A peer with our own address lives here: that the kernel does not know it means that it is over.
            return "gone" if is_missing and ours[0] == theirs[0] else "unknown"
        return "here" if struct.unpack_from("=I", answer, _INODE_AT)[0] else "gone"


def _question(family: int, source: Sequence[object], destination: Sequence[object]) -> bytes:
    """A request for the one socket with these ends: the peer's, whose source is what we call the peer."""
    ends = _PORTS.pack(source[1], destination[1], _packed(family, source[0]), _packed(family, destination[0]))
    asked = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + ends + bytes(4) + _NO_COOKIE
    return _HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST, 0, 0) + asked


def _packed(family: int, host: object) -> bytes:
    return socket.inet_pton(family, str(host).partition("%")[0])
