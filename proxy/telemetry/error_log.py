"""Warnings that somebody outside can cause, at a rate that they cannot raise.

A client that sends garbage ten thousand times a second must not be able to fill a disk. Each kind of warning
(`reason`, a slug from the code) is written at most once in `every_s`; what was held back is counted and told
with the next one. Arguments are made printable before they reach the logger.

Owned by the app; it waits for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.telemetry.access_line import printable

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ("ErrorLog",)


class ErrorLog:
    """A logger with one allowance for each reason; `now` reads a monotonic clock in seconds."""

    def __init__(self, logger: logging.Logger, now: Callable[[], float], *, every_s: float = 1.0) -> None:
        self._logger = logger
        self._now = now
        self._every_s = every_s
        self._next_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def report(self, reason: str, message: str, *args: str | bytes) -> None:
        """Log `message % args` as a warning of the kind `reason`, unless one was just logged."""
        now = self._now()
        if now < self._next_at.get(reason, now):
            self._held_back[reason] = self._held_back.get(reason, 0) + 1
            return
        self._next_at[reason] = now + self._every_s
        held_back = self._held_back.pop(reason, 0)
        more = f" (and {held_back} more like it)" if held_back else ""
        self._logger.warning("%s: %s%s", reason, message % tuple(map(printable, args)), more)
