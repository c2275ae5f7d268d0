"""Large reads without a copy: a connection that carries bodies reads into memory that is used again.

An `Intake` takes a link's place as the protocol of its transport, once a read has shown that large bodies
pass there, and lives as long as the transport. It waits for nothing. What was read lies in a `ReadBuffer`,
which all connections of one owner share, since each read is dealt with before the next one: the parts of a
body are passed on to the other side's socket as views, and what cannot leave at once is copied by whoever
keeps it. A view that somebody kept all the same stays what it is: the interpreter refuses to resize a
`bytearray` while anything refers into it, and then the next read gets another one.

A read of a few kilobytes is copied and goes the way of every other read, on which small messages are cheaper.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

__all__ = ("BULKY", "Intake", "ReadBuffer", "Reader")

_SIZE: Final = 512 << 10  # each read and its write cost 35 us, whatever their size
BULKY: Final = 16 << 10
"""Bytes of a read from which on it pays to leave them where they are."""


class ReadBuffer:
    """Memory for one read at a time."""

    __slots__ = ("_memory",)

    def __init__(self) -> None:
        self._memory = bytearray()

    def free(self) -> bytearray:
        """Memory that nobody refers into."""
        memory = self._memory
        try:
            memory.append(memory.pop())
        except (BufferError, IndexError):  # referred into; not made yet
            memory = self._memory = bytearray(_SIZE)
        return memory


class Reader(Protocol):
    """The link, as its intake sees it."""

    def data_received(self, data: bytes) -> None:
        """A read."""

    def view_received(self, view: memoryview) -> None:
        """A large read: `view` is good until this returns, and what is kept of it costs its whole buffer."""

    def eof_received(self) -> None:
        """The peer sends nothing more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""

    def pause_writing(self) -> None:
        """The peer's socket is full."""

    def resume_writing(self) -> None:
        """The peer has caught up."""


class Intake(asyncio.BufferedProtocol):
    """See the module's text."""

    def __init__(self, link: Reader, buffer: ReadBuffer) -> None:
        self._link = link
        self._buffer = buffer
        self._memory = bytearray()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where to read to, however much is expected."""
        self._memory = self._buffer.free()
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        view = memoryview(self._memory)[:nbytes]
        if nbytes < BULKY:
            self._link.data_received(bytes(view))
        else:
            self._link.view_received(view)

    def eof_received(self) -> None:
        """The peer sends nothing more."""
        self._link.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._link.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer's socket is full."""
        self._link.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._link.resume_writing()
