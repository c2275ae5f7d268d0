"""Whose deadline comes next, among many who mostly leave long before it.

Theory of operation
-------------------
A heap of (deadline, ticket), where leaving is lazy: a ticket that has its answer stays as a husk until it
reaches the head or until husks outnumber the living, when the heap is rebuilt without them. At a steady
rate of answers the rebuilding costs O(1) for each ticket and the heap never holds more than twice the
living (plus a constant), whereas waiting for husks to expire would keep half a minute of traffic in memory.
Calls without a deadline never enter.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import Generic, Protocol, TypeVar

__all__ = ("Expiring", "Expiry")

_FEW = 64  # husks not worth a rebuild


class Expiring(Protocol):
    """What has a deadline and may be done before it."""

    deadline: float

    @property
    def is_done(self) -> bool:
        """Whether nobody needs to be told any more."""


T = TypeVar("T", bound=Expiring)


class Expiry(Generic[T]):
    """The deadlines of those who still wait."""

    __slots__ = ("_heap", "_living", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._sequence = count()
        self._living = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, waiting: T) -> None:
        """Watch over `waiting`; it must call `leave` once it is done."""
        if waiting.deadline < math.inf:
            self._living += 1
            heapq.heappush(self._heap, (waiting.deadline, next(self._sequence), waiting))

    def leave(self, waiting: T) -> None:
        """`waiting` is done; its ``is_done`` is already true."""
        if waiting.deadline < math.inf:
            self._living -= 1
            if len(self._heap) > 2 * self._living + _FEW:
                self._heap = [entry for entry in self._heap if not entry[2].is_done]
                heapq.heapify(self._heap)

    def due(self, now: float) -> list[T]:
        """Those whose deadline has passed, in its order; they still have to `leave`."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            waiting = heapq.heappop(self._heap)[2]
            if not waiting.is_done:
                found.append(waiting)
        return found

    def next_at(self) -> float:
        """The earliest deadline; infinite when nobody waits."""
        while self._heap and self._heap[0][2].is_done:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf
