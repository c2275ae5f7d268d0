"""When a reader has stopped reading (pure).

Theory of operation
-------------------
A reader is given up when it took nothing for the span that the operator allows. Whether it took something
cannot be told from being able to write: the kernel asks for more only once a third of its buffer is free,
which takes a slow but honest reader minutes. What counts is the number of bytes that the reader has not
acknowledged, in the transport and in the kernel, or has opened no window for: as long as it moves, the
reader lives. It is looked at four times in each span, so a stalled reader is given up between one and one
and a half spans after its last byte.
"""

from __future__ import annotations

from typing import Final

__all__ = ("StallJudge",)

_LOOKS: Final = 4


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
