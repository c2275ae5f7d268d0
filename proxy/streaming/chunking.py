"""How many bytes to hand to a slow reader at once (pure).

Theory of operation
-------------------
As long as a reader keeps up nothing is chunked: what one read brought is one write. Chunking matters only
when bytes wait for the reader. Then each time the kernel has taken everything, the next chunk is handed to
it. The bytes of that chunk wait in the transport, where watermarks cannot see them, until the reader has
made room for the last of them. Large chunks cost fewer system calls and small ones less memory and
coarse-grained waiting.

The right size follows from the reader's bandwidth: a chunk should last it about 10 ms. That is 50 KB for a
reader of 5 MB/s and the largest chunk for one above 100 MB/s. The bandwidth is measured from the chunks
themselves: bytes handed over, divided by the time until the kernel wanted more, smoothed so that half of
what is known is new. Sizes are powers of two between 16 KiB, below which system calls cost more than the
memory is worth, and 1 MiB, above which throughput was not seen to grow.

A chunk gathers whole pieces that are already there. It never waits for more, and it never cuts a piece.
"""

from __future__ import annotations

from typing import Final

__all__ = ("LARGEST", "SMALLEST", "ChunkSizer")

SMALLEST: Final = 16 << 10
LARGEST: Final = 1 << 20
_SPAN_S: Final = 0.01
_WEIGHT: Final = 0.5


class ChunkSizer:
    """Adapts `size` (bytes) to the reader's bandwidth, starting with `start`."""

    __slots__ = ("_bandwidth", "size")

    def __init__(self, start: int) -> None:
        self.size = min(max(start, SMALLEST), LARGEST)
        self._bandwidth = 0.0

    @property
    def bandwidth(self) -> float:
        """Measured bytes per second; 0 before anything was."""
        return self._bandwidth

    def taken(self, count: int, span_s: float) -> None:
        """The reader took `count` bytes in `span_s` seconds."""
        measured = count / max(span_s, 1e-6)
        if self._bandwidth:
            measured = self._bandwidth + _WEIGHT * (measured - self._bandwidth)
        self._bandwidth = measured
        wanted = int(min(measured * _SPAN_S, LARGEST))
        self.size = max(SMALLEST, 1 << max(wanted - 1, 0).bit_length())
