"""The planner: requests, the backend's answers, the operator's wishes."""

from math import inf

import pytest

from proxy.loading.actions import Failure, Prospect, Refuse
from proxy.loading.policy import ModelLoadPolicy
from proxy.loading.queue import Ticket
from proxy.loading.slot import State
from tests.unit.loading.worlds import GIB, World, model


def test_a_cold_model_is_loaded_once_for_all_who_wait() -> None:
    world = World()
    first, second = world.wait("a"), world.wait("a")
    assert world.decide() == ["load a"]
    assert world.decide() == []
    world.pass_time(10)
    assert world.loaded("a") == ["release a", "release a"]
    assert world.planner.is_ready("a")
    assert not world.planner.leave(first)
    assert not world.planner.leave(second)


def test_a_ready_model_makes_nobody_wait() -> None:
    world = World()
    world.make_ready("a")
    world.use("a")
    assert world.decide() == []


def test_an_unknown_model_is_none_of_our_business() -> None:
    world = World()
    assert not world.planner.observe("zzz", world.now)
    assert world.planner.is_ready("zzz")
    assert not world.planner.finished("zzz", world.now)
    assert not world.planner.backend.not_ready("zzz", world.now)


def test_what_the_backend_does_not_list_is_not_held_up() -> None:
    world = World()
    world.planner.state.manage("ghost", world.now)
    assert world.state("ghost") is State.UNKNOWN
    assert world.planner.is_ready("ghost")


def test_observing_holds_nobody_up_and_does_nothing() -> None:
    world = World(mode="observe")
    assert world.request("a") is None
    assert world.decide() == []


def test_only_the_waiting_can_leave() -> None:
    world = World()
    ticket = world.wait("a")
    assert world.planner.leave(ticket)
    assert world.decide() == []


class TestProspects:
    def test_an_unknown_model_has_none(self) -> None:
        world = World()
        assert world.planner.prospect("zzz", world.now, inf) is None

    def test_a_ready_model_keeps_nobody(self) -> None:
        world = World()
        world.make_ready("a")
        assert world.planner.prospect("a", world.now, inf) == Prospect("ready", waits=False)

    def test_who_asks_is_told_and_nothing_else_happens(self) -> None:
        world = World()
        found = world.planner.prospect("a", world.now, inf)
        assert found is not None
        assert (found.state, found.waits, found.refusal) == ("unloaded", True, None)
        assert found.eta_s >= 10
        assert world.decide() == []

    def test_a_refusal_is_foretold_and_orders_nothing(self) -> None:
        world = World()
        found = world.planner.prospect("a", world.now, world.now + 5)
        assert found is not None
        assert found.refusal is not None
        assert (found.waits, found.refusal.reason) == (False, "loading")
        assert world.decide() == []


class TestRefusals:
    def test_the_room_is_bounded(self) -> None:
        world = World(queue=2)
        world.wait("a")
        world.wait("a")
        refusal = world.request("a")
        assert isinstance(refusal, Refuse)
        assert refusal.reason == "full"

    def test_a_model_that_can_never_fit_is_refused_with_the_reason(self) -> None:
        world = World(models={"huge": model(size=9 * GIB)})
        refusal = world.request("huge")
        assert isinstance(refusal, Refuse)
        assert refusal.reason == "no_room"
        assert world.decide() == []

    def test_who_cannot_be_served_in_time_is_told_when_to_come_back_and_the_load_goes_on(self) -> None:
        world = World()
        refusal = world.request("a", within=5)
        assert isinstance(refusal, Refuse)
        assert (refusal.reason, refusal.retry_after_s) == ("loading", 10.0)
        world.finish("a")
        assert world.decide() == ["load a"]
        world.pass_time(6)
        world.wait("a", within=5)
        refusal = world.request("a", within=1)
        assert isinstance(refusal, Refuse)
        assert refusal.retry_after_s == 4.0
        assert world.loaded("a") == ["release a"]

    def test_nobody_waits_longer_than_the_configured_span(self) -> None:
        world = World(max_wait=20.0)
        ticket = world.wait("a")
        assert ticket.deadline == world.now + 20

    def test_what_was_never_loaded_is_waited_for_on_the_chance(self) -> None:
        unknown = ModelLoadPolicy()
        world = World("ab", places=9, models={"a": unknown, "b": unknown})
        world.wait("a", within=2)
        assert world.decide() == ["load a"]
        world.wait("b", within=2)
        world.pass_time(1)
        assert world.loaded("a", 1.0) == ["release a", "load b"]
        assert world.loaded("b", 1.0) == ["release b"]

    def test_a_deadline_that_passes_in_the_queue_is_a_refusal(self) -> None:
        world = World()
        world.wait("a", within=15)
        assert world.decide() == ["load a"]
        world.pass_time(14.9)
        assert world.decide() == []
        assert world.planner.wakeup() == pytest.approx(world.now + 0.1)
        world.pass_time(0.2)
        assert world.decide() == ["refuse a deadline"]
        assert world.loaded("a") == []


class TestOperator:
    def test_loads_a_model_although_nobody_waits(self) -> None:
        world = World()
        world.planner.order("a", world.now)
        assert world.decide() == ["load a"]
        assert world.slot("a").cause == "manual"

    def test_clears_a_failure(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        world.planner.backend.load_failed("a", world.now, Failure("missing"))
        assert world.decide() == ["refuse a failed"]
        world.planner.order("a", world.now)
        assert world.decide() == ["load a"]

    def test_unloads_what_is_idle(self) -> None:
        world = World()
        assert world.planner.evict("a", world.now) == "not loaded"
        assert world.planner.evict("zzz", world.now) == "not loaded"
        world.make_ready("a")
        world.request("a")
        assert "1 requests" in world.planner.evict("a", world.now)
        world.finish("a")
        assert world.planner.evict("a", world.now) == ""
        assert world.decide() == ["unload a"]

    def test_cannot_unload_where_the_backend_cannot(self) -> None:
        world = World()
        world.make_ready("a")
        world.planner.backend.limit(can_unload=False, can_cancel=False)
        assert "cannot" in world.planner.evict("a", world.now)

    def test_pins_and_unpins(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.planner.pin("a", world.now)
        refusal = world.request("b")
        assert isinstance(refusal, Refuse)
        assert refusal.reason == "no_room"
        world.planner.pin("a", world.now, is_pinned=False)
        assert isinstance(world.request("b"), Ticket)
        assert world.decide() == ["unload a"]

    def test_is_told_why(self) -> None:
        world = World()
        world.make_ready("a")
        assert [decision.action for decision in world.planner.why("a")] == ["ready", "load"]


class TestHotModels:
    def test_requests_within_a_second_are_only_counted(self) -> None:
        world = World()
        world.make_ready("a")
        for _ in range(10):
            world.pass_time(0.05)
            world.use("a")
        past = world.planner.history.models["a"]
        assert past.frequency(world.now) == pytest.approx(1, abs=0.01)
        assert world.slot("a").uncounted == 10
        world.pass_time(1)
        world.use("a")
        assert past.frequency(world.now) == pytest.approx(12, abs=0.1)
        assert world.slot("a").uncounted == 0

    def test_those_of_a_session_are_not(self) -> None:
        world = World()
        world.make_ready("a")
        for _ in range(3):
            world.planner.observe("a", world.now, "user")
        assert world.slot("a").uncounted == 0

    def test_a_clock_that_steps_back_stops_nothing(self) -> None:
        world = World()
        world.make_ready("a")
        world.pass_time(-1000)
        world.use("a")
        assert world.slot("a").uncounted == 0


def test_good_answers_reach_the_governor_with_the_next_end_that_is_looked_at() -> None:
    world = World()
    world.make_ready("a")
    for seconds in (1.0, 3.0):
        world.pass_time(1)
        world.planner.observe("a", world.now)
        world.slot("a").answered(world.now, seconds)
        world.finish("a")
    assert world.planner.state.governor.pressure > 1
    assert world.slot("a").answers == 0


def test_answers_beside_a_load_tell_nothing_of_pressure() -> None:
    world = World()
    world.make_ready("a")
    governor = world.planner.state.governor

    def answered_in(span_s: float) -> None:
        began = world.now
        world.planner.observe("a", began)
        world.pass_time(span_s)
        world.slot("a").answered(began, span_s)
        world.finish("a")
        world.pass_time(1)

    world.pass_time(1)
    answered_in(0.1)
    world.wait("b")
    assert world.decide() == ["load b"]
    answered_in(2.0)
    assert governor.pressure == 1.0
    world.planner.observe("a", world.now)
    world.slot("a").answered(world.now, 2.0)
    world.loaded("b")
    world.finish("a")
    assert governor.pressure == 1.0, "it began while the load ran"
    world.pass_time(1)
    answered_in(2.0)
    assert governor.pressure > 1.0


def test_a_finish_too_many_is_harmless() -> None:
    world = World()
    world.finish("a")
    assert world.slot("a").in_flight == 0


def test_nothing_to_wake_for() -> None:
    assert World("").planner.wakeup() == inf
