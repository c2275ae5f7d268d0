"""How many bytes to hand to a slow reader at once (pure).

Theory of operation
-------------------
As long as a reader keeps up nothing is chunked: what one read brought is one write. Chunking matters only
when bytes wait for the reader. Then each time the kernel has taken everything, the next chunk is handed to
it. The bytes of that chunk wait in the transport, where watermarks cannot see them, until the reader has
made room for the last of them. Large chunks cost fewer system calls and small ones less memory and
coarse-grained waiting.

The right size follows from the reader's bandwidth: a chunk should last it about 10 ms. That is 50 KB for a
reader of 5 MB/s and the largest chunk for one above 100 MB/s. The bandwidth is what the kernel took while the
reader was being waited for, divided by the time that took, over 10 ms at least: less says how fast the
kernel fills the reader's buffer (measured: gigabytes per second for a reader of 50 MB/s). It is smoothed so
that half of what is known is new. A span in which nothing waited for the reader says nothing about it and is
left out. Sizes are powers of two between 16 KiB, below which system calls cost more than the memory is worth,
and 1 MiB, above which throughput was not seen to grow.

A chunk gathers whole pieces that are already there. It never waits for more, and it never cuts a piece.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ("LARGEST", "SMALLEST", "ChunkSizer")

SMALLEST: Final = 16 << 10
LARGEST: Final = 1 << 20
_SPAN_S: Final = 0.01
_WEIGHT: Final = 0.5


class ChunkSizer:
    """Adapts `size` (bytes) to the reader's bandwidth, starting with `start`.

    `taken` is how many bytes the kernel has taken so far, `now` when that was.
    """

    __slots__ = ("_at", "_bandwidth", "_caught_up_at", "_taken", "size")

    def __init__(self, start: int) -> None:
        self.size = min(max(start, SMALLEST), LARGEST)
        self._bandwidth = 0.0
        self._taken = 0
        self._at = 0.0
        self._caught_up_at = -math.inf

    @property
    def bandwidth(self) -> float:
        """Measured bytes per second; 0 before anything was."""
        return self._bandwidth

    def waits(self, taken: int, now: float) -> None:
        """From now on bytes wait for the reader."""
        if now - self._caught_up_at >= _SPAN_S:
            self._taken = taken
            self._at = now

    def caught_up(self, taken: int, now: float) -> None:
        """Nothing waits for the reader any more."""
        self._caught_up_at = now
        span_s = now - self._at
        if span_s < _SPAN_S:
            return
        measured = (taken - self._taken) / span_s
        self._taken = taken
        self._at = now
        if self._bandwidth:
            measured = self._bandwidth + _WEIGHT * (measured - self._bandwidth)
        self._bandwidth = measured
        wanted = int(min(measured * _SPAN_S, LARGEST))
        self.size = max(SMALLEST, 1 << max(wanted - 1, 0).bit_length())
