"""Timers that keep tenths of milliseconds, for cost models and load schedules.

libuv counts in whole milliseconds, and so does epoll: a cost of 5.15 ms becomes 5 or 6, which is the whole
per-item cost of a small batch. Linux's timerfd keeps nanoseconds and looks like any readable descriptor to
the loop. Where there is none, the loop's own timers do.

Owned by whoever needs the precision; `close` withdraws everything. One descriptor serves all callbacks: it is
armed for the earliest.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ("FineTimer", "Handle")

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class _Instant(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Instant), ("value", _Instant))


class Handle:
    """A callback that has not run yet; `cancel` withdraws it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Withdraw the callback; harmless when it already ran."""
        self.callback = None


class FineTimer:
    """Runs callbacks at instants of ``time.monotonic``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()
        self._armed: float | None = None
        self._is_running = self._is_closed = False
        self._fallback: asyncio.TimerHandle | None = None
        self._fd = -1
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._setting = _Setting()
            self._at = self._setting.value
            self._set_time = libc.timerfd_settime
            self._set_time.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
            self._address = ctypes.addressof(self._setting)
            self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._run_due)

    def now(self) -> float:
        """Seconds of ``time.monotonic``."""
        return monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        """Run `callback` at the instant `when`, or in the next turn of the loop if that has passed."""
        handle = Handle(callback)
        heapq.heappush(self._heap, (when, next(self._order), handle))
        if not self._is_running and (self._armed is None or when < self._armed):
            self._arm(when)
        return handle

    def call_later(self, span_s: float, callback: Callable[[], object]) -> Handle:
        """Run `callback` after `span_s` seconds."""
        return self.call_at(monotonic() + span_s, callback)

    def close(self) -> None:
        """Withdraw every callback and free the descriptor."""
        self._is_closed = True
        self._heap.clear()
        if self._fallback is not None:
            self._fallback.cancel()
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, when: float | None) -> None:
        """Wake at `when`, or never. On Linux this also takes back an expiry that nobody has read."""
        self._armed = when
        if self._fd < 0:
            if self._fallback is not None:
                self._fallback.cancel()
            if when is not None:
                self._fallback = self._loop.call_later(max(0.0, when - monotonic()), self._run_due)
            return
        nanoseconds = 0 if when is None else max(1, int(when * 1e9))  # 0 disarms
        self._at.seconds, self._at.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if self._set_time(self._fd, _TFD_TIMER_ABSTIME, self._address, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _run_due(self) -> None:
        heap, now = self._heap, monotonic()
        due = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap)[2])
        self._is_running = True  # armed once, after all of them: many a callback sets the next instant
        try:
            for handle in due:
                if handle.callback is not None:
                    handle.callback()
        finally:
            self._is_running = False
            if not self._is_closed:
                self._arm(heap[0][0] if heap else None)
