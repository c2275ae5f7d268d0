"""The access log: samples ended calls and hands their lines to the writer.

Owned by the app; it waits for nothing (the `LineWriter` does) and holds nothing that needs ending.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.telemetry.access_line import Scribe, Thinner, as_json, as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended
    from proxy.telemetry.policy import AccessLogPolicy

__all__ = ("AccessLog", "Stamper")


class Stamper:
    """ISO 8601 UTC with milliseconds from `wall` (seconds since the epoch); each text is made once."""

    __slots__ = ("_milli", "_text", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._milli = -1
        self._text = ""

    def now(self) -> str:
        """The wall time now, such as ``2030-01-02T03:04:05.678Z``."""
        milli = int(self._wall() * 1000)
        if milli != self._milli:
            self._milli = milli
            second = datetime.fromtimestamp(milli // 1000, UTC)
            self._text = f"{second:%Y-%m-%dT%H:%M:%S}.{milli % 1000:03d}Z"
        return self._text


class AccessLog:
    """Writes one line for each call that the policy's shares select.

    `write_line` gets a complete line; `stamp` gives the time. With the format ``off`` none is made at all.
    """

    __slots__ = ("_errors", "_format", "_ok", "_scribe", "_stamp", "_write_line")

    def __init__(
        self, policy: AccessLogPolicy, stamp: Callable[[], str], write_line: Callable[[bytes], None]
    ) -> None:
        self._format = as_text if policy.format == "text" else as_json
        self._ok = Thinner(policy.ok)
        self._errors = Thinner(policy.errors)
        self._scribe = Scribe()
        self._stamp = stamp
        self._write_line = write_line

    def record(self, call: Call, ended: Ended) -> None:
        """Log the call if it is among the share of its kind."""
        thinner = self._ok if ended.outcome == "ok" else self._errors
        if thinner.takes_next():
            self._write_line(self._format(self._scribe.line(call, ended, self._stamp())))
