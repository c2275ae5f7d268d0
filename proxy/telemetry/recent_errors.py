"""The last failures, told once each: what an operator wants to see before opening a log.

A failing backend produces the same failure thousands of times in a second, which would push everything else
out of a plain ring. So failures are grouped by what makes them the same to a reader (outcome, reason, status,
route, model); a group keeps its count, its first and last time and the last request's id. The groups that
were not seen for the longest time leave first. Clients' own mistakes that the backend answered (404, 422) are
no failures of the service and are not kept; requests that Pillion itself refused are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.telemetry.access_line import printable

if TYPE_CHECKING:
    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended

__all__ = ("FailureGroup", "RecentErrors")


class FailureGroup(msgspec.Struct):
    """Equal failures. `first_at` and `last_at` are ISO 8601 UTC."""

    outcome: str
    reason: str
    status: int
    route: str
    model: str
    count: int
    first_at: str
    last_at: str
    last_request_id: str


class RecentErrors:
    """A bounded table of failure groups, most recent last."""

    __slots__ = ("_groups", "_most")

    def __init__(self, most: int = 50) -> None:
        self._most = most
        self._groups: dict[tuple[str, str, int, str, str], FailureGroup] = {}

    def record(self, call: Call, ended: Ended, ts: str) -> None:
        """Count one failed call that ended at `ts`."""
        key = (ended.outcome, ended.reason, ended.status, ended.route, printable(ended.model, 128))
        group = self._groups.pop(key, None) or FailureGroup(*key, 0, ts, ts, "")
        group.count += 1
        group.last_at = ts
        group.last_request_id = printable(call.header(b"x-request-id") or b"", 128)
        self._groups[key] = group
        if len(self._groups) > self._most:
            del self._groups[next(iter(self._groups))]

    def newest_first(self) -> list[FailureGroup]:
        """All groups, the most recently seen first."""
        return list(reversed(self._groups.values()))
