"""When a reader has stopped reading, and how much may wait for it (pure).

Theory of operation
-------------------
**Watermarks.** What a reader does not take waits in a `Stream`, whose producer is paused above the high
watermark and resumed at a quarter of it: the gap between the two is the work that one pause buys, so that a
slow reader costs one pause for each three quarters of the mark and not one for each read. A producer may
overshoot by what one read brings (256 KB at most).

**Budget.** All bodies together may hold `limit` bytes. A mark that suits one stream does not suit a
thousand, so each stream's share of the budget caps its high watermark: half of the budget divided by the
streams there are, never less than `LEAST`. Beyond three quarters of the budget the ledger itself keeps
every stream to one read.

**Stall.** A reader is given up when it took nothing for the span that the operator allows. Whether it took
something cannot be told from being able to write: the kernel asks for more only once a third of its buffer
is free, which takes a slow but honest reader minutes. What counts is the number of bytes that the reader
has not acknowledged, in the transport and in the kernel: as long as it moves, the reader lives. It is
looked at four times in each span, so a stalled reader is given up between one and one and a half spans
after its last byte.
"""

from __future__ import annotations

from typing import Final

__all__ = ("LEAST", "StallJudge", "high_water")

LEAST: Final = 16 << 10
_LOOKS: Final = 4


def high_water(wanted: int, limit: int, streams: int) -> int:
    """The high watermark of one of `streams` bodies that share `limit` bytes; at most `wanted`."""
    return min(wanted, max(LEAST, limit // 2 // max(streams, 1)))


class StallJudge:
    """Judges one reader that is being waited for; `stall_s` is how long it may take nothing."""

    __slots__ = ("_moved_at", "_stall_s", "_taken")

    def __init__(self, stall_s: float, now: float) -> None:
        self._stall_s = stall_s
        self._taken = -1
        self._moved_at = now

    def next_look(self, now: float) -> float:
        """The instant at which to ask `has_stalled` next."""
        return now + self._stall_s / _LOOKS

    def has_stalled(self, now: float, taken: int) -> bool:
        """True when the reader, who has taken `taken` bytes so far, is to be given up."""
        if taken != self._taken:
            self._taken = taken
            self._moved_at = now
        return now - self._moved_at >= self._stall_s
