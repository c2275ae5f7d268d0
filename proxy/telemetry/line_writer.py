"""Lines to a file descriptor without ever blocking the event loop.

Owned by whoever writes the lines, started and stopped with the app. Lines gather in memory for at most
`_LINGER_S` or `_CHUNK` bytes and go to a thread in one piece, so the thread wakes ten times a second under
any load and never when nothing is written. The thread waits for nothing but the next piece and the
descriptor; a reader that stops reading therefore stops the thread, the backlog grows to `most_bytes`, and
from then on lines are dropped and counted. `stop` writes what is left, waiting at most `_LAST_WORDS_S` for a
reader that may be gone; the thread is a daemon, so it can never keep the process alive.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.timing import Clock, Timer

__all__ = ("LineWriter",)

_LINGER_S = 0.1
_CHUNK = 256 << 10
_LAST_WORDS_S = 2.0


class LineWriter:
    """Writes whole lines to `fd` from a thread of its own; `dropped` counts those it could not keep."""

    def __init__(self, clock: Clock, fd: int = 1, *, most_bytes: int = 8 << 20) -> None:
        self.dropped = 0
        self._clock = clock
        self._fd = fd
        self._most_bytes = most_bytes
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._timer: Timer | None = None
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Each of the two counters has one writing thread, so their difference needs no lock.
        self._offered_bytes = 0
        self._settled_bytes = 0
        self._thread = threading.Thread(target=self._work, name="line-writer", daemon=True)

    @property
    def backlog_bytes(self) -> int:
        """Bytes accepted and not yet written."""
        return self._offered_bytes - self._settled_bytes

    def write(self, line: bytes) -> None:
        """Take one line (newline included), or drop it when the reader is too slow."""
        size = len(line)
        if self.backlog_bytes + size > self._most_bytes:
            self.dropped += 1
            return
        self._offered_bytes += size
        self._lines_bytes += size
        self._lines.append(line)
        if self._lines_bytes >= _CHUNK:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.call_at(self._clock.now() + _LINGER_S, self.flush)

    def flush(self) -> None:
        """Hand what has gathered to the thread now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._pieces.put(b"".join(self._lines))
            self._lines.clear()
            self._lines_bytes = 0

    async def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: lines are still written while others drain."""

    async def stop(self) -> None:
        """Write what is left, as far as the reader takes it."""
        self.flush()
        self._pieces.put(None)
        await asyncio.to_thread(self._thread.join, _LAST_WORDS_S)

    # ------------------------------------------------------------- the thread
    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                self._write_all(piece)
            except OSError:
                # Standard output is gone (a closed pipe, a full disk): there is nowhere left to say so.
                self.dropped += piece.count(b"\n")
            self._settled_bytes += len(piece)

    def _write_all(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # A descriptor shared with a shell or a supervisor may have been made non-blocking by it.
                self._wait_writable()

    def _wait_writable(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll()
