"""The planner: requests, the backend's answers, the operator's wishes."""

from math import inf

import pytest

from proxy.loading.actions import Failure, Prospect, Refuse, Report
from proxy.loading.backend import Backend
from proxy.loading.history import History
from proxy.loading.policy import ModelLoadPolicy
from proxy.loading.predictor import Forecast
from proxy.loading.queue import Ticket
from proxy.loading.slot import State
from tests.unit.loading.worlds import GIB, START, World, model


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


def test_configured_models_are_missed_until_they_are_loaded_or_have_failed() -> None:
    world = World(preload=("a", "b"))
    assert world.planner.missing() == ["a", "b"]
    assert world.decide() == ["load a"]
    world.loaded("a")
    assert world.planner.missing() == ["b"]
    world.planner.backend.load_failed("b", world.now, Failure("missing"))
    assert world.planner.missing() == []
    assert World(preload=("a",), mode="observe").planner.missing() == []


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
