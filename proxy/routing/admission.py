"""How many calls may be inside at once (pure).

Theory of operation
-------------------
One counter over all listeners. A call that is admitted holds its place until its answer has left, streams
included, because a stream holds memory and a backend slot for as long as it lasts. Refusing at the door is
cheap and clear (429 with Retry-After); admitting without bound is neither.

Where callers show keys, each key may have a bound of its own (`quotas`).

The bodies in transit are the second bound: once they fill the ledger, a new call is refused with 503 before
its body costs anything, while those inside go on and make room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import BuffersFull, Overloaded

if TYPE_CHECKING:
    from proxy.exchange import Ledger
    from proxy.routing.quotas import Quotas

__all__ = ("Admission",)

_RETRY_AFTER_S = 1.0


class Admission:
    """Counts admitted calls against `limit`; `enter` and `leave` come in pairs."""

    __slots__ = ("_ledger", "_limit", "_quotas", "in_flight")

    def __init__(self, limit: int, ledger: Ledger | None = None, quotas: Quotas | None = None) -> None:
        self._limit = limit
        self._ledger = ledger
        self._quotas = quotas
        self.in_flight = 0

    def enter(self, identity: bytes = b"", now: float = 0.0) -> None:
        """Admit one call of `identity` at the instant `now`, or raise `Overloaded`, `BuffersFull` or
        `OverQuota`."""
        if self.in_flight >= self._limit:
            raise Overloaded(f"{self._limit} calls are in flight already", retry_after_s=_RETRY_AFTER_S)
        if self._ledger is not None and self._ledger.is_full:
            raise BuffersFull("the bodies in transit fill the memory set aside", retry_after_s=_RETRY_AFTER_S)
        if self._quotas is not None:
            self._quotas.enter(identity, now)
        self.in_flight += 1

    def retract(self, identity: bytes = b"") -> None:
        """The call that entered is to enter once more: this time does not count."""
        if self._quotas is not None:
            self._quotas.retract(identity)
        self.in_flight -= 1

    def leave(self, identity: bytes = b"") -> None:
        """The call of `identity` that entered is over."""
        if self._quotas is not None:
            self._quotas.leave(identity)
        self.in_flight -= 1
