"""Writing many pieces at once, some of which lie in memory that is about to be used again.

A transport that cannot write everything keeps the pieces themselves until it can. For views of a read buffer
that would be too long, so they are offered to the kernel first, and what it does not take is copied. Used by
a link, once for each of its writes that carries a large body.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from proxy.http2.frames import Piece

__all__ = ("descriptor", "unsent", "write_pieces")

_MOST: Final = 1024  # pieces that the kernel takes at once: IOV_MAX of Linux, and of most


def descriptor(transport: asyncio.BaseTransport) -> int:
    """The socket under `transport`; -1 where bytes do not enter it as they are, as under TLS."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("ssl_object") is not None:
        return -1
    return int(sock.fileno())


def write_pieces(transport: asyncio.WriteTransport, fileno: int, pieces: Sequence[Piece]) -> None:
    """Write `pieces` in order; nothing refers into a read buffer afterwards."""
    sent = 0
    if fileno >= 0 and not transport.get_write_buffer_size() and not transport.is_closing():
        with contextlib.suppress(OSError):  # full, or broken: the transport finds out, and knows what to do
            sent = os.writev(fileno, pieces[:_MOST])
    rest = unsent(pieces, sent)
    if rest:
        transport.writelines(rest)


def unsent(pieces: Sequence[Piece], sent: int) -> list[Piece]:
    """What is left of `pieces` behind the first `sent` bytes; what is not immutable is copied."""
    rest: list[Piece] = []
    for piece in pieces:
        size = len(piece)
        if sent >= size:
            sent -= size
            continue
        if isinstance(piece, memoryview) and not isinstance(piece.obj, bytes):
            rest.append(bytes(piece[sent:]))
        else:
            rest.append(memoryview(piece)[sent:] if sent else piece)
        sent = 0
    return rest
