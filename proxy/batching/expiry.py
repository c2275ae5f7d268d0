"""Whose deadline comes next, among many who mostly leave long before it.

Theory of operation
-------------------
Most calls of a route may take equally long, so deadlines come in order and a queue keeps them; one that is
earlier than the last in the queue goes into a heap. Leaving is lazy: a ticket that has its answer stays as a
husk until it reaches the head or until husks outnumber the living, when they are swept out. At a steady rate
of answers that costs O(1) for each ticket and never more than twice the living (plus a constant) are kept,
whereas waiting for husks to expire would keep half a minute of traffic in memory. Calls without a deadline
never enter.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import count
from typing import Generic, Protocol, TypeVar

__all__ = ("Expiring", "Expiry")

_FEW = 64  # husks not worth a sweep


class Expiring(Protocol):
    """What has a deadline and may be done before it."""

    deadline: float

    @property
    def is_done(self) -> bool:
        """Whether nobody needs to be told any more."""


T = TypeVar("T", bound=Expiring)


class Expiry(Generic[T]):
    """The deadlines of those who still wait."""

    __slots__ = ("_heap", "_living", "_queue", "_sequence")

    def __init__(self) -> None:
        self._queue: deque[T] = deque()
        self._heap: list[tuple[float, int, T]] = []
        self._sequence = count()
        self._living = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    def add(self, waiting: T) -> None:
        """Watch over `waiting`; it must call `leave` once it is done."""
        deadline = waiting.deadline
        if deadline < math.inf:
            self._living += 1
            queue = self._queue
            if not queue or queue[-1].deadline <= deadline:
                queue.append(waiting)
            else:
                heapq.heappush(self._heap, (deadline, next(self._sequence), waiting))

    def leave(self, waiting: T) -> None:
        """`waiting` is done; its ``is_done`` is already true."""
        if waiting.deadline < math.inf:
            self._living -= 1
            if len(self._queue) + len(self._heap) > 2 * self._living + _FEW:
                self._sweep()

    def due(self, now: float) -> list[T]:
        """Those whose deadline has passed, in its order; they still have to `leave`."""
        found = []
        while self.next_at() <= now:
            found.append(self._pop())
        return found

    def next_at(self) -> float:
        """The earliest deadline; infinite when nobody waits."""
        queue, heap = self._queue, self._heap
        while queue and queue[0].is_done:
            queue.popleft()
        while heap and heap[0][2].is_done:
            heapq.heappop(heap)
        return min(queue[0].deadline if queue else math.inf, heap[0][0] if heap else math.inf)

    def _pop(self) -> T:
        """Take out who comes next."""
        queue, heap = self._queue, self._heap
        if not heap or (queue and queue[0].deadline <= heap[0][0]):
            return queue.popleft()
        return heapq.heappop(heap)[2]

    def _sweep(self) -> None:
        self._queue = deque([waiting for waiting in self._queue if not waiting.is_done])
        self._heap = [entry for entry in self._heap if not entry[2].is_done]
        heapq.heapify(self._heap)
