"""What the rest of the house reports to: metrics, access log and recent errors behind one object.

Owned by the app; `start` and `stop` make it a lifecycle component. `record` is the one place every call ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.telemetry.access_log import AccessLog, Stamper
from proxy.telemetry.collector import MetricsPage
from proxy.telemetry.line_writer import LineWriter
from proxy.telemetry.loop_lag import LoopLagSampler
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.recent_errors import RecentErrors

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended
    from proxy.telemetry.policy import AccessLogPolicy
    from proxy.timing import Clock

__all__ = ("Telemetry",)


class Telemetry:
    """One app's metrics, access log and recent errors.

    `wall` gives seconds since the epoch for log lines; `log_fd` is where access lines go; `models` are the
    model names written out in the configuration.
    """

    def __init__(
        self,
        clock: Clock,
        wall: Callable[[], float],
        policy: AccessLogPolicy,
        *,
        version: str,
        models: tuple[str, ...] = (),
        log_fd: int = 1,
    ) -> None:
        self.stamp = Stamper(wall).now
        self.metrics = Metrics(version, models)
        self.page = MetricsPage(self.metrics)
        self.errors = RecentErrors()
        self._lines = LineWriter(clock, log_fd)
        self._lag = LoopLagSampler(clock, self.metrics.loop_lag)
        self._access_log = (
            None if policy.format == "off" else AccessLog(policy, self.stamp, self._lines.write)
        )
        self.metrics.sample("access_log_dropped_total", lambda: [((), self._lines.dropped)])

    def record(self, call: Call, ended: Ended) -> None:
        """One call ended: count it, log it, and remember it if it failed."""
        self.metrics.record(call, ended)
        if self._access_log is not None:
            self._access_log.record(call, ended)
        if ended.status >= 500 or (ended.reason and ended.outcome != "cancelled"):
            self.errors.record(call, ended, self.stamp())

    async def start(self) -> None:
        """Start the log writer and the loop lag sampler."""
        await self._lines.start()
        await self._lag.start()

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: others still report while they drain."""

    async def stop(self) -> None:
        """Write the last lines; nothing may be recorded afterwards."""
        await self._lag.stop()
        await self._lines.stop()
