"""What listings of the backend change in the plan, and what is loaded at the start."""

import pytest

from proxy.loading.actions import Failure, Report
from proxy.loading.backend import Backend
from proxy.loading.history import History
from proxy.loading.predictor import Forecast
from proxy.loading.slot import State
from tests.unit.loading.worlds import GIB, START, World, model


class TestReconcile:
    def test_learns_what_there_is(self) -> None:
        world = World("", history=History())
        world.lists({"a": "ready", "b": "unloaded", "c": "failed", "d": "loading", "e": "unknown"})
        states = [world.state(name).value for name in "abcde"]
        assert states == ["ready", "unloaded", "unloaded", "loading", "unknown"]

    def test_a_foreign_load_is_joined(self) -> None:
        world = World()
        world.lists({"a": "loading", "b": "unloaded", "c": "unloaded"})
        world.wait("a")
        assert world.decide() == []
        world.pass_time(5)
        world.lists({"a": "ready", "b": "unloaded", "c": "unloaded"})
        assert world.decide() == ["release a"]

    def test_a_foreign_unload_under_way_changes_nothing_yet(self) -> None:
        world = World()
        world.lists({"a": "unloading"})
        assert world.state("a") is State.UNLOADED

    def test_a_foreign_load_that_was_given_up(self) -> None:
        world = World()
        world.lists({"a": "loading"})
        world.pass_time(5)
        world.lists({"a": "unloaded"})
        assert world.state("a") is State.UNLOADED
        world.lists({"a": "unloaded"})
        assert world.planner.state.residency.used == 0

    def test_a_foreign_load_that_hangs_is_not_ours_to_stop(self) -> None:
        world = World()
        world.lists({"a": "loading"})
        world.pass_time(600)
        assert world.decide() == []
        assert world.state("a") is State.UNLOADED

    def test_a_foreign_unload_is_seen_and_not_fought(self) -> None:
        world = World()
        world.make_ready("a", "b")
        world.pass_time(10)
        assert not world.lists({"a": "unloaded", "b": "ready", "c": "unloaded"})
        assert world.state("a") is State.UNLOADED
        assert world.decide() == []

    def test_after_a_silence_one_lost_model_is_a_restart(self) -> None:
        world = World(preload=("a",))
        assert world.decide() == ["load a"]
        world.loaded("a")
        world.pass_time(10)
        assert world.lists({"a": "unloaded", "b": "ready"}, after_silence=True)
        assert world.decide() == ["load a"], "it is configured"

    @pytest.mark.parametrize(("other", "is_restart"), [("unloaded", True), ("ready", False)])
    def test_after_a_silence_a_backend_with_nothing_may_have_restarted(
        self, other: str, is_restart: bool
    ) -> None:
        world = World("ab")
        assert world.lists({"a": "unloaded", "b": other}, after_silence=True) is is_restart

    def test_the_first_listing_is_no_restart(self) -> None:
        world = World("")
        world.planner.backend = Backend(world.planner.state)
        assert not world.lists({"a": "unloaded"}, after_silence=True)

    def test_a_listing_older_than_a_change_is_not_believed(self) -> None:
        world = World()
        mark = world.planner.backend.mark()
        world.make_ready("a")
        world.lists({"a": "unloaded"}, mark=mark)
        assert world.state("a") is State.READY

    def test_our_own_loads_are_left_alone(self) -> None:
        world = World()
        world.wait("a")
        world.decide()
        world.pass_time(1)
        world.lists({"a": "ready", "b": "unloaded", "c": "unloaded"})
        assert world.state("a") is State.LOADING, "the warm-up may still run"

    def test_our_own_unloads_are_left_alone(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.wait("b")
        assert world.decide() == ["unload a"]
        world.lists({"a": "ready", "b": "unloaded", "c": "unloaded"})
        assert world.state("a") is State.UNLOADING
        assert world.unloaded("a") == ["load b"]

    def test_sizes_are_learned(self) -> None:
        world = World("a", models={"b": model(size=None)})
        for size in (3 * GIB, 4 * GIB):
            world.planner.backend.reconcile(
                {"b": Report("ready", size)}, world.planner.backend.mark(), world.now
            )
            assert world.planner.state.residency.used == size
            world.pass_time(1)

    def test_a_size_told_by_the_load_counts(self) -> None:
        world = World(models={"a": model(size=None)})
        world.wait("a")
        world.decide()
        world.planner.backend.loaded("a", world.now, 1.0, 5 * GIB)
        assert world.planner.state.residency.used == 5 * GIB

    def test_one_model_gone_is_no_restart_two_are(self) -> None:
        world = World(places=3)
        world.make_ready("a")
        world.pass_time(1)
        assert not world.lists({"a": "unloaded"})
        world.make_ready("a", "b")
        world.pass_time(1)
        assert world.lists({"a": "unloaded", "b": "unloaded"})


class TestBoot:
    def test_configured_models_are_loaded_first_and_even_evict(self) -> None:
        world = World("abc", places=1, preload=("c", "x"))
        assert world.decide() == ["load c"]
        assert world.state("x") is State.UNLOADED

    def test_a_restart_brings_back_the_most_valuable_while_memory_lasts(self) -> None:
        world = World("abcd", places=3, mode="predictive")
        world.make_ready("d", "b", "c")
        world.pass_time(30)
        world.use("c")
        world.pass_time(1)
        assert world.lists(dict.fromkeys("abcd", "unloaded"))
        loaded = []
        while decided := world.decide():
            assert len(decided) == 1
            loaded.append(decided[0])
            world.planner.backend.loaded(decided[0][-1], world.now, 1.0)
        assert loaded == ["load c", "load b", "load d"]

    def test_history_alone_starts_warm(self) -> None:
        history = History()
        for name, times in (("a", 1), ("b", 5)):
            for n in range(times):
                history.of(name, START - 1000).arrived(START - 900 + n, is_idle=True)
                history.ended(name, START - 900 + n, 0.0)
        world = World("abc", history=history, mode="predictive")
        assert world.decide() == ["load b"]
        world.planner.backend.loaded("b", world.now, 1.0)
        assert world.decide() == ["load a"]
        world.use("b")
        assert world.planner.state.ledger.totals["boot"].outcomes == {"hit": 1}

    @pytest.mark.parametrize("mode", ["demand", "observe"])
    def test_only_predictive_mode_does_that(self, mode: str) -> None:
        history = History()
        history.of("a", START).arrived(START, is_idle=True)
        assert World("abc", history=history, mode=mode, preload=()).decide() == []

    def test_a_configured_model_that_failed_is_tried_again_and_keeps_nobody_waiting(self) -> None:
        world = World("ab", places=3, preload=("a",), mode="predictive")
        assert world.decide() == ["load a"]
        world.planner.backend.load_failed("a", world.now, Failure("refused", "busy"))
        assert world.decide() == []
        assert world.planner.missing() == ["a"]
        assert world.planner.wakeup() == world.now + 1
        now = world.now
        world.planner.state.forecasts["b"] = Forecast("b", "periodic", now + 10, now + 100, 0.9)
        assert world.decide() == ["load b"]
        world.loaded("b")
        world.pass_time(1)
        assert world.decide() == ["load a"]
        world.loaded("a")
        assert world.decide() == []
        assert world.planner.state.orders == {}

    def test_observing_preloads_nothing(self) -> None:
        assert World(mode="observe", preload=("a",)).decide() == []


def test_configured_models_are_missed_until_they_are_loaded_or_have_failed() -> None:
    world = World(preload=("a", "b"))
    assert world.planner.missing() == ["a", "b"]
    assert world.decide() == ["load a"]
    world.loaded("a")
    assert world.planner.missing() == ["b"]
    world.planner.backend.load_failed("b", world.now, Failure("missing"))
    assert world.planner.missing() == []
    assert World(preload=("a",), mode="observe").planner.missing() == []
