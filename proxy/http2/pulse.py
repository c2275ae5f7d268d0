"""When to ask a silent peer for a sign of life, and when to believe that it is gone (pure).

Theory of operation
-------------------
A peer that lost its network, its power or its process's attention says nothing, and while nothing is written
to it TCP notices nothing either. So a connection with calls in progress that has heard nothing for `after_s`
sends a PING (RFC 9113 §6.7), and gives the peer as long again for any sign of life, be it the answer to the
PING or anything else. `after_s` is long on purpose: a model server that computes in its event loop is late,
not gone, and a host that is gone is noticed by TCP as soon as the PING makes it send something.

gRPC servers count PINGs that come closer than five minutes without data of their own in between as abuse, and
end the connection (gRPC's keepalive guide, `too_many_pings`). So no two are sent within that span, which only
delays the second question to a peer that has answered the first.
"""

from __future__ import annotations

import math
from typing import Final, Literal

__all__ = ("Pulse",)

_LEAST_BETWEEN_S: Final = 310.0


class Pulse:
    """The pulse of one connection; `after_s` of 0 asks nothing. `due_at` is when to look next."""

    __slots__ = ("_after_s", "_asked_at", "_is_asked", "due_at")

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._asked_at = -math.inf
        self._is_asked = False
        self.due_at = math.inf

    def look(self, now: float, heard_at: float) -> Literal["fine", "ask", "gone"]:
        """What to do at the instant `now`, the peer having been heard last at `heard_at`."""
        if not self._after_s:
            return "fine"
        if self._is_asked and heard_at <= self._asked_at:
            self.due_at = self._asked_at + self._after_s
            return "gone" if now >= self.due_at else "fine"
        self._is_asked = False
        self.due_at = max(heard_at + self._after_s, self._asked_at + _LEAST_BETWEEN_S)
        if now < self.due_at:
            return "fine"
        self._is_asked = True
        self._asked_at = now
        self.due_at = now + self._after_s
        return "ask"
