"""Loads and unloads that fail, and what is tried again when."""

from proxy.loading.actions import Failure, Refuse
from proxy.loading.slot import State
from tests.unit.loading.worlds import GIB, World, model


class TestFailures:
    def fail(self, world: World, kind: str, detail: str = "") -> list[str]:
        world.planner.backend.load_failed("a", world.now, Failure(kind, detail))  # type: ignore[arg-type]  # a kind
        return world.decide()

    def test_everybody_who_waits_is_told(self) -> None:
        world = World()
        world.wait("a")
        world.wait("a")
        world.decide()
        assert self.fail(world, "refused", "corrupt file") == ["refuse a failed", "refuse a failed"]
        assert world.slot("a").detail == "corrupt file"
        assert world.planner.state.residency.used == 0

    def test_the_next_try_waits_a_second_then_two(self) -> None:
        world = World()
        for pause in (1.0, 2.0):
            world.wait("a")
            assert world.decide() == ["load a"]
            self.fail(world, "refused")
            world.wait("a")
            assert world.decide() == []
            assert world.planner.wakeup() == world.now + pause
            world.pass_time(pause)
            assert world.decide() == ["load a"]
            self.fail(world, "unreachable")
            world.slot("a").failures = 1
            world.pass_time(60)

    def test_an_unreachable_backend_is_tried_for_ever_once_a_minute(self) -> None:
        world = World()
        for _ in range(12):
            world.wait("a")
            assert world.decide() == ["load a"]
            self.fail(world, "unreachable")
            world.planner.backend.silent(world.now)
            assert world.decide() in ([], ["refuse a failed"])
            world.pass_time(60)
        assert world.state("a") is State.UNLOADED

    def test_when_nobody_answers_the_next_listing_tells(self) -> None:
        for state, decided in (("ready", ["release a"]), ("loading", []), ("unloaded", [])):
            world = World()
            world.wait("a")
            world.decide()
            assert self.fail(world, "unreachable", "reset") == []
            assert world.state("a") is State.LOADING
            world.lists({"a": state})
            assert world.decide() == decided
            assert world.state("a").value == state
            assert not world.slot("a").is_theirs

    def test_a_load_that_was_not_heard_is_tried_again_for_those_who_wait(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        self.fail(world, "unreachable")
        world.lists({"a": "unloaded"})
        world.decide()
        world.pass_time(1)
        assert world.decide() == ["load a"]
        assert self.fail(world, "unreachable") == ["refuse a failed"]

    def test_when_there_is_no_listing_either_it_has_failed(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        self.fail(world, "unreachable", "reset")
        world.planner.backend.silent(world.now)
        assert world.decide() == ["refuse a failed"]
        world.wait("b")
        assert world.decide() == ["load b"]
        world.planner.backend.silent(world.now)
        assert world.state("b") is State.LOADING, "that one is still being waited for"

    def test_three_strikes_and_it_is_out_for_a_while(self) -> None:
        world = World()
        for _ in range(3):
            world.wait("a")
            assert world.decide() == ["load a"]
            self.fail(world, "refused", "bad weights")
            world.pass_time(60)
        assert world.state("a") is State.FAILED
        refusal = world.request("a")
        assert isinstance(refusal, Refuse)
        assert (refusal.reason, refusal.detail) == ("failed", "bad weights")
        assert refusal.retry_after_s == 450 - 60
        world.pass_time(390)
        world.wait("a")
        assert world.decide() == ["load a"]
        assert world.loaded("a") == ["release a"]
        assert world.slot("a").failures == 0

    def test_a_model_that_does_not_exist_is_out_at_once(self) -> None:
        world = World()
        world.planner.order("a", world.now)
        assert world.decide() == ["load a"]
        self.fail(world, "missing")
        assert world.state("a") is State.FAILED
        assert world.slot("a").retry_at == world.now + 900

    def test_out_of_memory_evicts_one_more_and_tries_again_at_once(self) -> None:
        world = World("abc", places=3, models={"b": model(size=2 * GIB)})
        world.make_ready("a")
        world.wait("b")
        assert world.decide() == ["load b"]
        assert self.fail_memory(world) == ["unload a"]
        assert world.slot("b").cost.size == int(2.5 * GIB)
        assert world.unloaded("a") == ["load b"]
        assert self.fail_memory(world) == ["refuse b failed"]

    def fail_memory(self, world: World) -> list[str]:
        world.planner.backend.load_failed("b", world.now, Failure("memory"))
        return world.decide()


class TestUnloading:
    def test_an_unload_that_failed_leaves_the_model_ready_and_alone(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.wait("b")
        assert world.decide() == ["unload a"]
        world.planner.backend.unload_failed("a", world.now, "still busy")
        assert world.state("a") is State.READY
        assert world.decide() == []
        assert world.planner.state.residency.used == GIB

    def test_an_unreachable_backend_may_be_asked_again(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.wait("b")
        assert world.decide() == ["unload a"]
        world.planner.backend.unload_failed("a", world.now, "reset", is_final=False)
        assert world.decide() == []
        world.pass_time(10)
        assert world.decide() == ["unload a"]


class TestDialectTraps:
    def test_a_model_that_is_gone_after_all_is_loaded_again(self) -> None:
        world = World()
        world.make_ready("a")
        assert world.planner.backend.not_ready("a", world.now)
        assert world.state("a") is State.UNLOADED
        assert not world.planner.backend.not_ready("a", world.now)
        world.wait("a")
        assert world.decide() == ["load a"]

    def test_observing_believes_nothing(self) -> None:
        world = World(mode="observe")
        world.lists({"a": "ready"})
        assert not world.planner.backend.not_ready("a", world.now)
