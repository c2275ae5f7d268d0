from __future__ import annotations

from proxy.caching.flights import Flight, Flights, Waiter


def departed(*keys: bytes, is_background: bool = False) -> tuple[Flights[str], Flight[str]]:
    flights: Flights[str] = Flights()
    flight: Flight[str] = Flight(keys, is_background=is_background)
    flights.depart(flight)
    return flights, flight


def test_a_flight_is_found_by_each_of_its_keys_until_it_lands() -> None:
    flights, flight = departed(b"a", b"b")
    assert flights.of(b"a") is flights.of(b"b") is flight
    assert (len(flights), flights.of(b"c")) == (1, None)
    flights.land(flight, "done")
    assert (flights.of(b"a"), flight.outcome, len(flights)) == (None, "done", 0)


def test_a_waiter_is_ready_when_its_last_flight_has_landed() -> None:
    flights, first = departed(b"a")
    second: Flight[str] = Flight((b"b",))
    flights.depart(second)
    waiter = Waiter()
    flights.join(waiter, [first, second, first])
    assert flights.land(first, "1") == []
    assert flights.land(second, "2") == [waiter]


def test_only_the_last_to_leave_deserts_a_flight() -> None:
    flights, flight = departed(b"a")
    one, other = Waiter(), Waiter()
    flights.join(one, [flight])
    flights.join(other, [flight])
    assert flights.leave(one, [flight]) == []
    assert flights.leave(one, [flight]) == []
    assert flights.leave(other, [flight]) == [flight]


def test_a_background_flight_is_never_deserted_and_has_no_parent() -> None:
    flights, flight = departed(b"a", is_background=True)
    waiter = Waiter()
    flights.join(waiter, [flight])
    assert flights.leave(waiter, [flight]) == []
    assert flight.is_orphan
    assert not Flight((b"x",)).is_orphan


def test_leaving_after_the_landing_deserts_nothing() -> None:
    flights, flight = departed(b"a")
    waiter = Waiter()
    flights.join(waiter, [flight])
    flights.land(flight, "done")
    assert flights.leave(waiter, [flight]) == []


def test_a_forsaken_flight_is_not_found_and_its_landing_harms_no_successor() -> None:
    flights, flight = departed(b"a")
    flights.forsake(flight)
    assert flights.of(b"a") is None
    successor: Flight[str] = Flight((b"a",))
    flights.depart(successor)
    flights.forsake(flight)
    flights.land(flight, "late")
    assert flights.of(b"a") is successor
