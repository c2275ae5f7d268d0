"""Demand: order, eviction, draining, thrash, cancelling, arrival times."""

import pytest

from proxy.loading.slot import State
from tests.unit.loading.worlds import GIB, World, model


def test_the_quicker_load_goes_first_one_at_a_time() -> None:
    world = World(models={"slow": model(load_time=100.0)})
    world.wait("slow")
    world.wait("a")
    assert world.decide() == ["load a"]
    assert world.loaded("a") == ["release a", "load slow"]


def test_as_many_loads_as_configured() -> None:
    world = World(places=3, concurrency=2)
    for name in "abc":
        world.wait(name)
    assert world.decide() == ["load a", "load b"]


def test_priorities_weigh() -> None:
    world = World(models={"vip": model(load_time=40.0, priority=10.0)})
    world.wait("a")
    world.wait("vip")
    assert world.decide() == ["load vip"]


def test_makes_room_and_loads_once_it_is_there() -> None:
    world = World(places=2)
    world.make_ready("a", "b")
    world.wait("c")
    assert world.decide() == ["unload a"]
    assert world.decide() == []
    assert world.unloaded("a") == ["load c"]


def test_memory_promised_to_one_is_not_given_to_the_next() -> None:
    world = World("abcd", places=2, models={"big": model(size=2 * GIB, load_time=1.0)}, concurrency=2)
    world.make_ready("a", "b")
    world.request("b")  # busy
    world.wait("big")
    world.planner.evict("a", world.now)
    world.wait("c")
    assert world.decide() == ["unload a"], "b is busy and big waits: c may have what big cannot use"
    world.finish("b")
    assert world.decide() == ["unload b"]
    assert world.unloaded("a") == []
    assert world.unloaded("b") == ["load big"]


def test_busy_models_stay_until_patience_ends_and_then_drain() -> None:
    world = World(places=1)
    world.make_ready("a")
    world.request("a")
    world.wait("b")
    assert world.decide() == []
    assert world.planner.state.is_blocked
    assert world.planner.wakeup() == world.now + 20, "two loads"
    world.pass_time(20)
    assert world.decide() == []
    assert world.slot("a").is_draining
    assert world.decide() == []
    late = world.wait("a")
    assert world.finish("a"), "the planner wants to know"
    assert world.decide() == ["unload a"]
    assert world.unloaded("a") == ["load b"], "it was drained for b, whatever waits for a by now"
    assert world.planner.leave(late)


def test_a_drained_model_is_reopened_when_nobody_waits_any_more() -> None:
    world = World(places=1)
    world.make_ready("a")
    world.request("a")
    ticket = world.wait("b", within=30)
    assert world.decide() == []
    assert world.planner.wakeup() == world.now + 15, "half of its time"
    world.pass_time(15)
    world.decide()
    world.wait("a")
    world.planner.leave(ticket)
    world.finish("b")
    assert world.decide() == ["release a"]
    assert world.planner.is_ready("a")


def test_an_expected_model_goes_only_when_nothing_else_does() -> None:
    world = World(places=2)
    world.make_ready("a", "b")
    world.oracle.expected = {"a"}
    world.wait("c")
    assert world.decide() == ["unload b"]


class TestThrash:
    def thrashing(self) -> World:
        world = World("ab", places=1)
        for n in range(12):
            name = "ab"[n % 2]
            world.wait(name)
            for _ in range(3):
                for action in world.decide():
                    if action.startswith("unload"):
                        world.planner.backend.unloaded(action[-1], world.now)
                    if action.startswith("load"):
                        world.planner.backend.loaded(action[-1], world.now, 10.0)
            world.finish(name)
            world.pass_time(25)
        assert world.planner.state.residency.is_thrashing
        return world

    def test_a_model_keeps_its_place_for_two_loads_of_the_other(self) -> None:
        world = self.thrashing()
        resident, other = ("a", "b") if world.state("a") is State.READY else ("b", "a")
        world.wait(other)
        assert world.decide() == [f"unload {resident}"], "it has been there for 25 s"
        world.unloaded(resident)
        world.planner.backend.loaded(other, world.now, 10.0)
        world.decide()
        world.finish(other)
        world.wait(resident)
        assert world.decide() == []
        assert world.planner.wakeup() <= world.now + 20
        world.use(other)
        world.pass_time(20)
        assert world.decide() == [f"unload {other}"]


class TestGivingUp:
    def test_a_load_that_nobody_wants_makes_way(self) -> None:
        world = World(models={"slow": model(load_time=100.0)})
        ticket = world.wait("slow")
        world.decide()
        world.pass_time(5)
        world.planner.leave(ticket)
        assert world.decide() == []
        world.wait("a")
        assert world.decide() == ["cancel slow"]
        assert world.state("slow") is State.UNLOADING
        assert world.decide() == ["load a"]
        assert world.unloaded("slow") == []
        assert world.state("a") is State.LOADING, "it was started at once: there was memory for both"

    def test_not_when_it_is_nearly_done(self) -> None:
        world = World()
        ticket = world.wait("a")
        world.decide()
        world.pass_time(6)
        world.planner.leave(ticket)
        world.wait("b")
        assert world.decide() == []

    def test_not_when_somebody_waits_for_it(self) -> None:
        world = World(models={"slow": model(load_time=100.0)})
        world.request("slow", within=200)
        world.planner.order("slow", world.now)
        assert "load slow" in world.decide()
        world.wait("a")
        assert world.decide() == [], "an operator asked for it"

    def test_not_where_the_backend_cannot(self) -> None:
        world = World(models={"slow": model(load_time=100.0)})
        world.planner.backend.limit(can_unload=True, can_cancel=False)
        ticket = world.wait("slow")
        world.decide()
        world.planner.leave(ticket)
        world.wait("a")
        assert world.decide() == []

    def test_not_for_somebody_who_cannot_be_loaded_either(self) -> None:
        world = World(models={"slow": model(load_time=100.0)})
        ticket = world.wait("slow")
        world.decide()
        world.planner.leave(ticket)
        world.wait("a")
        world.slot("a").retry_at = world.now + 10
        assert world.decide() == []

    def test_a_load_that_hangs_is_stopped_and_unloaded(self) -> None:
        world = World()
        world.wait("a", within=500)
        world.decide()
        assert world.planner.wakeup() == world.now + 60, "when it ages"
        world.pass_time(600)
        assert world.decide() == ["refuse a deadline", "cancel a"]
        assert world.state("a") is State.UNLOADING
        assert world.unloaded("a") == []

    def test_who_still_waits_for_a_load_that_hangs_is_told(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        world.pass_time(600)
        assert world.decide() == ["refuse a failed", "cancel a"]
        assert world.state("a") is State.UNLOADING


class TestEta:
    def eta(self, world: World, name: str) -> float:
        return world.planner._demand.eta(name, world.now)

    def test_is_the_load_alone_at_rest(self) -> None:
        assert self.eta(World(), "a") == 10.0

    def test_of_a_running_load_is_what_is_left(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        world.pass_time(4)
        assert self.eta(world, "a") == 6.0
        world.pass_time(16)
        assert self.eta(world, "a") == pytest.approx(2.0), "overdue: a tenth of what it took so far"

    def test_counts_the_running_load_and_those_ahead(self) -> None:
        world = World("abcd", places=4)
        for name in "abc":
            world.wait(name)
        world.decide()
        assert self.eta(world, "c") == 10 + 10 + 10
        assert self.eta(world, "d") == 10 + 20 + 10
        world.wait("d")
        assert self.eta(world, "d") == 10 + 20 + 10

    def test_a_slower_queue_is_overtaken(self) -> None:
        world = World(places=4, models={"slow": model(load_time=25.0)})
        world.wait("a")
        world.decide()
        world.wait("slow")
        assert self.eta(world, "b") == 10 + 10
        world.pass_time(60)
        assert self.eta(world, "b") == pytest.approx(6 + 25 + 10), "unless it has aged"

    def test_counts_the_pause_after_a_failure(self) -> None:
        world = World()
        world.slot("a").retry_at = world.now + 7
        assert self.eta(world, "a") == 17.0
