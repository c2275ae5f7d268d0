"""When a reader has stopped reading (pure).

Theory of operation
-------------------
A reader is given up when it took nothing for the span that the operator allows. Whether it took something
cannot be told from being able to write: the kernel asks for more only once a third of its buffer is free,
which takes a slow but honest reader minutes. What counts is the number of bytes that the reader has not
acknowledged, in the transport and in the kernel, or has opened no window for: as long as it moves, the
reader lives. It is looked at four times in each span, and given up when four looks in a row saw it stand
still: between one and one and a half spans after its last byte. Looks are counted, not seconds, because a
proxy that was itself stopped for a while has not seen what its readers did meanwhile.
"""

from __future__ import annotations

from typing import Final

__all__ = ("StallJudge",)

_LOOKS: Final = 4


class StallJudge:
    """Judges one reader that is being waited for; `stall_s` is how long it may take nothing."""

    __slots__ = ("_look_s", "_still", "_taken")

    def __init__(self, stall_s: float) -> None:
        self._look_s = stall_s / _LOOKS
        self._taken = -1
        self._still = 0

    def next_look(self, now: float) -> float:
        """The instant at which to ask `has_stalled` next."""
        return now + self._look_s

    def has_stalled(self, taken: int) -> bool:
        """True when the reader, who has taken `taken` bytes so far, is to be given up."""
        self._still = self._still + 1 if taken == self._taken else 0
        self._taken = taken
        return self._still >= _LOOKS
