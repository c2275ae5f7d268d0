"""Fail-open access to a storage: what it cannot answer in time is a miss, a sick one gets a pause.

Owned by the store. It waits for the storage at most `timeout_s`. After a failure the storage is closed, and
made anew when the pause is over: a driver's connection is not trusted after it was cut off in the middle.
Pauses double from one second to half a minute, so a dead Redis costs one request in many a few milliseconds,
and no request its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from proxy.telemetry.error_log import ErrorLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.caching.tiers.base import Tier
    from proxy.timing import Clock

__all__ = ("Guard",)

_T = TypeVar("_T")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_CLOSE_S = 1.0


class Guard:
    """The storage that `make` makes. `errors` counts failures by operation."""

    def __init__(self, make: Callable[[], Tier], timeout_s: float, clock: Clock) -> None:
        self.errors: Counter[str] = Counter()
        self._make = make
        self._timeout_s = timeout_s
        self._clock = clock
        self._log = ErrorLog(logging.getLogger(__name__), clock.now)
        self._tier: Tier | None = None
        self._resume_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    @property
    def is_paused(self) -> bool:
        """Whether the storage is being left alone."""
        return self._clock.now() < self._resume_at

    async def ask(
        self, name: str, operation: Callable[[Tier], Awaitable[_T]], default: _T, *, patience: float = 1.0
    ) -> _T:
        """What `operation` returns; `default` when it fails, takes too long, or the storage is being left
        alone.

        `patience` stretches the time-out, for work that no request waits for.
        """
        if self.is_paused:
            return default
        tier = self._tier
        try:
            if tier is None:
                tier = self._tier = self._make()
            async with asyncio.timeout(self._timeout_s * patience):
                result = await operation(tier)
        except Exception as error:  # noqa: BLE001  any driver's any failure means the same: go on without it
            self.errors[name] += 1
            if tier is self._tier:  # else somebody else's failure has paused it already, and caused this one
                await self._pause(name, error)
            return default
        self._pause_s = _FIRST_PAUSE_S
        return result

    async def close(self) -> None:
        """Close the storage; errors are of no interest any more."""
        tier, self._tier = self._tier, None
        if tier is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await tier.close()
            except Exception as error:  # noqa: BLE001  as above
                self._log.report("close", "the cache's storage did not close cleanly: %s", repr(error))

    async def _pause(self, name: str, error: Exception) -> None:
        self._resume_at = self._clock.now() + self._pause_s
        self._log.report(name, "the cache's storage failed, leaving it alone for a while: %s", repr(error))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        await self.close()
