"""What a generator is told, and what it says afterwards. Both travel as one line of JSON.

A closed loop has `connections` clients that each wait for their answer: it finds a maximum, and hides
waiting times (whoever waits does not ask). An open loop sends at planned instants whatever the server does,
and counts latency from the plan: a request that had to wait for a free connection, or for a generator that
was late, has waited for its user all the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ("LATE_S", "Arrivals", "LoadResult", "LoadSpec", "verdict")

Arrivals = Literal["closed", "constant", "poisson"]

LATE_S = 0.001
"""A send this long after its instant is late, and the generator's own fault."""

MAX_LATE_SHARE = 0.01
MAX_CPU_SHARE = 0.8


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `requests` are whole HTTP/1.1 requests as bytes, sent in turn."""

    url: str
    requests: list[bytes]
    connections: int
    seconds: float
    arrivals: Arrivals = "closed"
    rate: float = 0.0
    """Requests per second over all connections; open loops only."""
    warm_up_s: float | None = None
    """What is due before this does not count; None: a fifth of the time, at most 1 s."""
    patience_s: float = 10.0
    """Span after the last send within which answers are still awaited."""
    is_verifying: bool = False
    """Each good answer must equal the first good one to the same request."""
    core: int | None = None
    seed: int = 1

    @property
    def warm_up(self) -> float:
        """Seconds that do not count."""
        return min(1.0, self.seconds / 5) if self.warm_up_s is None else self.warm_up_s


class LoadResult(msgspec.Struct, kw_only=True):
    """Counts of one measurement, its warm-up excluded."""

    seconds: float = 0.0
    """From the end of the warm-up to the last planned send."""
    finished: int = 0
    """Answers with a 2xx status that came within these seconds, whenever they were asked for."""
    due: int = 0
    """Requests whose instant was within these seconds; what follows is about them."""
    answered: int = 0
    ok: int = 0
    """Answers with a 2xx status, however late."""
    statuses: dict[str, int] = msgspec.field(default_factory=dict)
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """``lost``: the connection ended first. ``unanswered``: no answer in time. ``different``: not the
    first answer's bytes. ``connect``: no connection."""
    late: int = 0
    """Sends of an open loop that the generator itself delayed."""
    waited: int = 0
    """Sends of an open loop that found all connections taken."""
    cpu_share: float = 0.0
    """Of one core, used by the generator."""
    is_open: bool = False
    histogram: str = ""
    """HdrHistogram of the latencies in microseconds, encoded (V2, base64)."""

    @property
    def rate(self) -> float:
        """Good answers per second. What was asked for before the warm-up ended is work done within it too."""
        return self.finished / self.seconds if self.seconds else 0.0


def verdict(result: LoadResult) -> str | None:
    """Why the measurement says more about the generator than about the server; None when it is valid."""
    if not result.answered:
        return "nothing was answered"
    if result.late > MAX_LATE_SHARE * max(result.due, 1):
        return f"the generator was late on {result.late / result.due:.1%} of its sends"
    if result.is_open and result.cpu_share > MAX_CPU_SHARE:
        return f"the generator used {result.cpu_share:.0%} of its core"
    return None
