"""How long a client may take for what it does (pure).

Theory of operation
-------------------
Every wait for a client has an end, and none of them is moved by single bytes: a head has one absolute
deadline, a body must keep up an average, an answer must be taken. Otherwise whoever sends a byte now and
then holds a connection for ever.

Nothing is timed while requests are served. One scan of the listener looks at each connection now and then
and tells its `Patience` what it sees: which phase the connection is in, for the how-manieth request, how
many body bytes have come and how many answer bytes are not yet taken. A phase counts from the scan that
first sees it, so a limit is kept to within one scan, and a request that comes and goes between two scans
costs nothing. The time is `Attention`'s: what the process spent stopped is not held against its clients.

A body is measured only while it is the client's turn: not while its reading is paused for a slow backend,
not while it waits for leave to send, not once its answer has begun (a conversation over one request may be
slow).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from proxy.ingress.policy import ServerTimeoutPolicy

__all__ = ("Action", "Attention", "Patience", "Phase")

Phase = Literal["idle", "head", "body", "busy"]
"""Between requests · in a request's head · in a body that the client should be sending · anything else."""

Action = Literal["", "close", "refuse", "abort"]
"""Nothing to do · close quietly · answer 408 and close · break off, because nothing that is sent gets
through."""

_GRACE_S: Final = 5.0
"""Span after which a body's average counts: a slow start is no attack."""


class Attention:
    """The time in which this process could hear its clients; `instant` is on the clock's axis, or behind it.

    What a client sent while the process or its machine stood still has not been read when the first scan
    comes, so however late that is, it counts for little more than a scan that comes every `scan_s`.
    """

    __slots__ = ("_most_s", "_seen_at", "instant")

    def __init__(self, scan_s: float, now: float) -> None:
        self.instant = now
        self._seen_at = now
        self._most_s = 2 * scan_s

    def scan(self, now: float) -> float:
        """A scan begins; the instant that it is to go by."""
        self.instant += min(now - self._seen_at, self._most_s)
        self._seen_at = now
        return self.instant


class Patience:
    """What one connection has been seen doing."""

    __slots__ = (
        "_before",
        "_heard_at",
        "_mark",
        "_phase",
        "_policy",
        "_rate",
        "_received",
        "_since",
        "_stuck_at",
        "_unsent",
    )

    def __init__(self, policy: ServerTimeoutPolicy, body_rate: int, now: float) -> None:
        self._policy = policy
        self._rate = body_rate
        self._phase: Phase = "idle"
        self._mark = 0
        self._since = now
        self._heard_at = now
        self._before = 0  # bytes of the body in hand when it was first seen
        self._received = 0
        self._unsent = 0
        self._stuck_at = now

    def judge(self, now: float, phase: Phase, mark: int, *, received: int, unsent: int) -> Action:
        """What to do about a connection in `phase` with its `mark`-th request.

        `received` counts body bytes of that request, `unsent` the answer bytes that wait for the client.
        """
        if unsent == 0 or unsent < self._unsent or self._unsent == 0:
            self._stuck_at = now
        self._unsent = unsent
        if now - self._stuck_at > self._policy.write_stall:
            return "abort"
        if phase != self._phase or mark != self._mark:
            self._phase, self._mark = phase, mark
            self._since = self._heard_at = now
            self._before = self._received = received
        if phase == "body":
            return self._judge_body(now, received)
        return self._judge_wait(now, phase)

    def _judge_wait(self, now: float, phase: Phase) -> Action:
        waited_s = now - self._since
        if phase == "head":
            return "refuse" if waited_s > self._policy.header else ""
        if phase == "idle":
            limit_s = self._policy.keepalive if self._mark else self._policy.header
            return "close" if waited_s > limit_s else ""
        return ""

    def _judge_body(self, now: float, received: int) -> Action:
        if received < self._received:  # another body than the one seen last
            self._since, self._before = now, received
        if received != self._received:
            self._heard_at, self._received = now, received
        if now - self._heard_at > self._policy.body_stall:
            return "refuse"
        counted_s = now - self._since - _GRACE_S
        return "refuse" if counted_s > 0 and received - self._before < self._rate * counted_s else ""
