"""Slots that work takes for a span of time: the demo's GPU, and its model loader.

Owned by the server. It waits for one timer for each piece of work in progress, and ends with the timer; there
are no tasks. Work waits first come, first served when all slots are taken, and may be withdrawn until it
begins. Once begun it runs to its end, as on a real device: nobody may be waiting for it any more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ("Executor", "Job", "Timer")


class Timer(Protocol):
    """What an executor needs of a `FineTimer`."""

    def call_later(self, span_s: float, callback: Callable[[], object]) -> object:
        """Run `callback` after `span_s` seconds."""


class Job:
    """One piece of work."""

    __slots__ = ("_done", "is_started", "is_withdrawn", "span_s")

    def __init__(self, span_s: float, done: Callable[[], object]) -> None:
        self.span_s = span_s
        self._done = done
        self.is_started = False
        self.is_withdrawn = False

    def cancel(self) -> None:
        """Nobody wants the result: `done` is not called, and work that has not begun never does."""
        self.is_withdrawn = True

    def finish(self) -> None:
        """Its span is over."""
        if not self.is_withdrawn:
            self._done()


class Executor:
    """Runs up to `parallelism` jobs at once (0: any number)."""

    def __init__(self, timer: Timer, parallelism: int, dropped: Callable[[], object]) -> None:
        self._timer = timer
        self._parallelism = parallelism
        self._dropped = dropped
        self._waiting: deque[Job] = deque()
        self.running = 0

    @property
    def queued(self) -> int:
        """Jobs that wait for a slot."""
        return len(self._waiting)

    def submit(self, span_s: float, done: Callable[[], object]) -> Job:
        """Take a slot for `span_s`, as soon as there is one, then call `done`."""
        job = Job(span_s, done)
        if self._parallelism and self.running >= self._parallelism:
            self._waiting.append(job)
        else:
            self._start(job)
        return job

    def _start(self, job: Job) -> None:
        job.is_started = True
        self.running += 1
        self._timer.call_later(job.span_s, lambda: self._finished(job))

    def _finished(self, job: Job) -> None:
        self.running -= 1
        while self._waiting:
            following = self._waiting.popleft()
            if not following.is_withdrawn:
                self._start(following)
                break
            self._dropped()
        job.finish()
