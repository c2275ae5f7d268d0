"""Who was on the backend at the same time: tells batches that had it to themselves from those that did not.

Theory of operation
-------------------
Only a batch that was alone shows what the backend needs for it. A batch is alone if nothing was on its way
when it left and nothing left before it came back; calls that are forwarded unmerged count as well, since
the backend works on them all the same. One reference to the batch that may still be alone is enough: any
departure clears it.
"""

from __future__ import annotations

__all__ = ("Company",)


class Company:
    """The exchanges with one upstream. `count` of them are under way."""

    __slots__ = ("_lone", "count")

    def __init__(self) -> None:
        self.count = 0
        self._lone: object | None = None

    def enter(self, batch: object | None = None) -> int:
        """A batch leaves, or a call that is none (None); how many were already under way."""
        others = self.count
        self._lone = None if others else batch
        self.count += 1
        return others

    def leave(self, batch: object | None = None) -> bool:
        """It came back; whether it is a batch that was alone all the time."""
        self.count -= 1
        return batch is not None and self._lone is batch
