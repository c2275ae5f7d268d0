"""One upstream call for all who ask the same: the tasks behind `flights`.

Owned by the cache. Each flight is a task of this object, never of a request; requests wait for a future of
their own, until the flights that they need have landed, their deadline passes or they are cancelled. A flight
that nobody waits for is cancelled. `close` cancels all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from proxy.caching.flights import Flight, Flights, Waiter
from proxy.errors import DeadlineExceeded
from proxy.timing import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from proxy.timing import Clock, Deadline

__all__ = ("SingleFlight",)

_Outcome = TypeVar("_Outcome")


class _Caller(Waiter):
    """A waiting request."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        super().__init__()
        self.future = future


class SingleFlight(Generic[_Outcome]):
    """Runs flights. `given_up` makes the outcome of one that was cancelled or failed by a fault of ours;
    `discard` frees what only the request that caused a flight could have used."""

    def __init__(
        self, clock: Clock, given_up: Callable[[], _Outcome], discard: Callable[[_Outcome], None]
    ) -> None:
        self.flights: Flights[_Outcome] = Flights()
        self._clock = clock
        self._given_up = given_up
        self._discard = discard
        self._tasks: dict[Flight[_Outcome], asyncio.Task[_Outcome]] = {}

    def launch(
        self,
        keys: tuple[bytes, ...],
        work: Coroutine[object, object, _Outcome],
        *,
        is_background: bool = False,
    ) -> Flight[_Outcome]:
        """Send `work` off to answer `keys`; a waiter has to join before the loop's next turn."""
        flight: Flight[_Outcome] = Flight(keys, is_background=is_background)
        self.flights.depart(flight)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[flight] = task
        task.add_done_callback(lambda task: self._landed(flight, task))
        return flight

    async def wait(self, flights: Sequence[Flight[_Outcome]], deadline: Deadline) -> list[_Outcome]:
        """The outcomes of `flights`; raises `DeadlineExceeded`."""
        caller = _Caller(asyncio.get_running_loop().create_future())
        self.flights.join(caller, flights)
        timer = None if deadline == NEVER else self._clock.call_at(deadline, lambda: _expire(caller))
        try:
            await caller.future
        except BaseException:
            for flight in self.flights.leave(caller, flights):
                self._desert(flight)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return [cast("_Outcome", flight.outcome) for flight in flights]

    def orphan(self, flight: Flight[_Outcome]) -> None:
        """The request that caused `flight` is gone."""
        flight.is_orphan = True
        if flight.outcome is not None:
            self._discard(flight.outcome)

    async def close(self) -> None:
        """Give up every flight."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _desert(self, flight: Flight[_Outcome]) -> None:
        """The last waiter left: give the call up."""
        self.flights.forsake(flight)
        self._tasks[flight].cancel()

    def _landed(self, flight: Flight[_Outcome], task: asyncio.Task[_Outcome]) -> None:
        del self._tasks[flight]
        if task.cancelled():
            outcome = self._given_up()
        elif (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "a cached fetch failed", "exception": error, "task": task}
            )
            outcome = self._given_up()
        else:
            outcome = task.result()
            if flight.is_orphan:
                self._discard(outcome)
        for waiter in self.flights.land(flight, outcome):
            future = cast("_Caller", waiter).future
            if not future.done():
                future.set_result(None)


def _expire(caller: _Caller) -> None:
    if not caller.future.done():
        caller.future.set_exception(DeadlineExceeded())
