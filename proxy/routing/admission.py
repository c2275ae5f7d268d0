"""How many calls may be inside at once (pure).

Theory of operation
-------------------
One counter over all listeners. A call that is admitted holds its place until its answer has left, streams
included, because a stream holds memory and a backend slot for as long as it lasts. Refusing at the door is
cheap and clear (429 with Retry-After); admitting without bound is neither.
"""

from __future__ import annotations

from proxy.errors import Overloaded

__all__ = ("Admission",)

_RETRY_AFTER_S = 1.0


class Admission:
    """Counts admitted calls against `limit`; `enter` and `leave` come in pairs."""

    __slots__ = ("_limit", "in_flight")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_flight = 0

    def enter(self) -> None:
        """Admit one call, or raise `Overloaded`."""
        if self.in_flight >= self._limit:
            raise Overloaded(f"{self._limit} calls are in flight already", retry_after_s=_RETRY_AFTER_S)
        self.in_flight += 1

    def leave(self) -> None:
        """The call that entered is over."""
        self.in_flight -= 1
