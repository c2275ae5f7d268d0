"""How much may wait for a reader (pure).

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
"""

from __future__ import annotations

from typing import Final

__all__ = ("LEAST", "high_water")

LEAST: Final = 16 << 10


def high_water(wanted: int, limit: int, streams: int) -> int:
    """The high watermark of one of `streams` bodies that share `limit` bytes; at most `wanted`."""
    return min(wanted, max(LEAST, limit // 2 // max(streams, 1)))
