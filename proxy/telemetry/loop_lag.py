"""How late the event loop runs its timers: the one number that says "the proxy itself is the bottleneck".

Owned by the app. One timer, re-armed each time it fires, every half second; it costs nothing per request and
ends with `stop`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.telemetry.histogram import Histogram
    from proxy.timing import Clock, Timer

__all__ = ("LoopLagSampler",)

_EVERY_S = 0.5


class LoopLagSampler:
    """Observes into `lags`, in seconds, how late each tick ran."""

    def __init__(self, clock: Clock, lags: Histogram) -> None:
        self._clock = clock
        self._lags = lags
        self._due_at = 0.0
        self._timer: Timer | None = None

    async def start(self) -> None:
        """Begin to sample."""
        self._arm()

    async def drain(self, deadline: float) -> None:
        """Nothing to finish."""

    async def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._due_at = self._clock.now() + _EVERY_S
        self._timer = self._clock.call_at(self._due_at, self._tick)

    def _tick(self) -> None:
        self._lags.observe(max(self._clock.now() - self._due_at, 0.0))
        self._arm()
