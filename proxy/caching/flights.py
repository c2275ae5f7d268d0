"""Who waits for which question to be answered: the bookkeeping of single flight.

Theory of operation ------------------- A *flight* is one upstream call that will answer one or more keys.
While it is in the air, a request for one of its keys joins it instead of asking again; a request for several
items may wait for several flights at once, some of them its own. So a *waiter* counts the flights that it
still needs, and a flight knows its waiters.

A flight belongs to the room and not to the request that caused it: when that request is cancelled the others
lose nothing, and only when the last waiter leaves is the flight deserted, to be given up. A flight in the
background (a refresh of something that was given stale) has no waiters and is never deserted.

A key leaves the table in the moment its flight lands, before anyone is told. Whoever asks after that starts
anew: nothing that failed is remembered here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Flight", "Flights", "Waiter")

_Outcome = TypeVar("_Outcome")


class Waiter:
    """A request that needs `missing` more flights to land."""

    __slots__ = ("missing",)

    def __init__(self) -> None:
        self.missing = 0


class Flight(Generic[_Outcome]):
    """One upstream call on its way; `outcome` is set once it has landed.

    `is_orphan` once the request that caused it is gone: what only that request could have used is of no use.
    """

    __slots__ = ("is_background", "is_orphan", "keys", "outcome", "waiters")

    def __init__(self, keys: tuple[bytes, ...], *, is_background: bool = False) -> None:
        self.keys = keys
        self.is_background = is_background
        self.is_orphan = is_background
        self.outcome: _Outcome | None = None
        self.waiters: set[Waiter] = set()


class Flights(Generic[_Outcome]):
    """The flights in the air, by key."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[bytes, Flight[_Outcome]] = {}

    def __len__(self) -> int:
        return len(set(map(id, self._by_key.values())))

    def of(self, key: bytes) -> Flight[_Outcome] | None:
        """The flight that will answer `key`."""
        return self._by_key.get(key)

    def depart(self, flight: Flight[_Outcome]) -> None:
        """`flight` is in the air; none of its keys may have been in another."""
        for key in flight.keys:
            self._by_key[key] = flight

    def join(self, waiter: Waiter, flights: Iterable[Flight[_Outcome]]) -> None:
        """`waiter` needs all of `flights`, none of which has landed."""
        for flight in flights:
            if waiter not in flight.waiters:
                flight.waiters.add(waiter)
                waiter.missing += 1

    def leave(self, waiter: Waiter, flights: Iterable[Flight[_Outcome]]) -> list[Flight[_Outcome]]:
        """`waiter` waits no more; the flights that nobody needs now."""
        deserted = []
        for flight in flights:
            if waiter in flight.waiters:
                flight.waiters.discard(waiter)
                if not flight.waiters and not flight.is_background:
                    deserted.append(flight)
        return deserted

    def land(self, flight: Flight[_Outcome], outcome: _Outcome) -> list[Waiter]:
        """`flight` has its outcome; the waiters that need no other flight."""
        flight.outcome = outcome
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
        ready = []
        for waiter in flight.waiters:
            waiter.missing -= 1
            if not waiter.missing:
                ready.append(waiter)
        flight.waiters = set()
        return ready

    def forsake(self, flight: Flight[_Outcome]) -> None:
        """`flight` is being given up: nobody may join it any more."""
        for key in flight.keys:
            if self._by_key.get(key) is flight:
                del self._by_key[key]
