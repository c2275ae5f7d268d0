"""Speculation: orders, forecasts, and what keeps them in check."""

import pytest

from proxy.loading.actions import Failure
from proxy.loading.predictor import Forecast, IdleHint
from proxy.loading.speculation import benefit
from tests.unit.loading.worlds import GIB, START, World, model

DUE_IN_S = 10.0


def foresee(world: World, name: str, cause: str = "periodic", p: float = 0.9, within: float = 100.0) -> None:
    """A forecast falls due."""
    world.planner.state.forecasts[name] = Forecast(name, cause, world.now + DUE_IN_S, world.now + within, p)  # type: ignore[arg-type]


def outcomes(world: World) -> dict[str, int]:
    """All causes together."""
    totals: dict[str, int] = {}
    for each in world.planner.state.ledger.totals.values():
        for outcome, count in each.outcomes.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return totals


def predictive(names: str = "abc", places: int = 3, **changes: object) -> World:
    return World(names, places, mode="predictive", **changes)  # type: ignore[arg-type]  # forwards any


def test_the_benefit_weighs_what_is_caught_against_what_is_wasted() -> None:
    assert benefit(1.0, 0.0, 10.0) == 10.0
    assert benefit(1.0, 1.0, 10.0) == 50.0, "at most five requests"
    assert benefit(0.0, 0.0, 10.0) == -3.0
    assert benefit(0.5, 0.0, 10.0) == pytest.approx(5 - 1.5)


class TestForecasts:
    def test_loads_ahead_into_free_memory(self) -> None:
        world = predictive()
        foresee(world, "a")
        assert world.decide() == ["load a"]
        assert world.slot("a").cause == "periodic"
        assert world.loaded("a") == []
        world.use("a")
        assert outcomes(world) == {"hit": 1}

    def test_comes_too_late(self) -> None:
        world = predictive()
        foresee(world, "a")
        world.decide()
        world.pass_time(4)
        world.wait("a")
        assert outcomes(world) == {"late": 1}

    def test_nobody_comes(self) -> None:
        world = predictive()
        foresee(world, "a")
        world.decide()
        world.loaded("a")
        assert world.planner.wakeup() <= world.now + 100
        world.pass_time(101)
        assert world.decide() == [], "memory is not short, so it stays"
        assert outcomes(world) == {"wasted": 1}

    def test_with_idle_unloading_what_nobody_used_goes(self) -> None:
        world = predictive(idle_unload=5000.0)
        foresee(world, "a")
        world.decide()
        world.loaded("a")
        world.pass_time(101)
        assert world.decide() == ["unload a"]

    def test_a_failed_load_wastes_nothing_but_is_scored(self) -> None:
        world = predictive()
        foresee(world, "a")
        world.decide()
        world.planner.backend.load_failed("a", world.now, Failure("refused"))
        assert outcomes(world) == {"wasted": 1}

    @pytest.mark.parametrize("mode", ["observe", "demand"])
    def test_other_modes_only_count(self, mode: str) -> None:
        world = World(mode=mode)
        foresee(world, "a")
        assert world.decide() == []
        world.planner.observe("a", world.now + 10)
        totals = world.planner.state.ledger.totals["periodic"]
        assert totals.outcomes == {"suppressed": 1}
        assert totals.forgone_s == 10.0

    def test_leaves_a_reserve_for_demand(self) -> None:
        world = predictive(places=2)
        world.make_ready("a")
        foresee(world, "b")
        assert world.decide() == []
        assert not world.planner.why("b"), "there may be room in time"
        assert world.planner.wakeup() == world.now + DUE_IN_S
        world.pass_time(DUE_IN_S)
        assert world.decide() == []
        assert "no free memory" in world.planner.why("b")[0].why

    def test_waits_for_room_until_the_need(self) -> None:
        world = predictive(places=2)
        world.make_ready("a")
        foresee(world, "b")
        assert world.decide() == []
        world.pass_time(DUE_IN_S / 2)
        world.planner.evict("a", world.now)
        world.decide()
        assert world.unloaded("a") == ["load b"]

    def test_a_need_that_comes_sooner_than_room_is_a_forecast_that_was_right(self) -> None:
        world = predictive(places=2)
        world.make_ready("a")
        foresee(world, "b")
        assert world.decide() == []
        world.wait("b")
        assert outcomes(world) == {"suppressed": 1}
        assert world.planner.state.ledger.totals["periodic"].forgone_s == 10.0

    def test_improbable_ones_are_dropped(self) -> None:
        world = predictive()
        foresee(world, "a", p=0.2)
        assert world.decide() == []
        assert "probability" in world.planner.why("a")[0].why

    def test_the_governor_may_say_no(self) -> None:
        world = predictive()
        for _ in range(5):
            world.planner.state.governor.settled(("a", "periodic"), world.now, is_hit=False, load_s=1.0)
        foresee(world, "a")
        assert world.decide() == []
        assert "precision" in world.planner.why("a")[0].why

    def strained(self) -> World:
        """A forecast that falls due while too many loads were for nothing."""
        world = predictive()
        foresee(world, "a")
        world.planner.state.governor.began(700.0, world.now)
        assert world.decide() == []
        assert outcomes(world) == {}
        assert world.planner.wakeup() == world.now + DUE_IN_S
        return world

    def test_a_strain_that_passes_in_time_only_puts_them_off(self) -> None:
        world = self.strained()
        world.pass_time(1)
        world.planner.state.governor.settled(("b", "periodic"), world.now, is_hit=True, load_s=700.0)
        assert world.decide() == ["load a"]

    def test_a_strain_that_lasts_drops_them_when_they_are_due(self) -> None:
        world = self.strained()
        world.pass_time(DUE_IN_S)
        assert world.decide() == []
        assert "unused loads" in world.planner.why("a")[0].why

    def test_waits_while_somebody_waits(self) -> None:
        world = predictive(places=4)
        world.wait("b")
        foresee(world, "a")
        assert world.decide() == ["load b"]
        assert world.loaded("b") == ["release b", "load a"]

    def test_one_at_a_time_however_many_loaders_there_are(self) -> None:
        world = predictive("abcd", places=9, concurrency=4)
        foresee(world, "a")
        foresee(world, "b")
        assert world.decide() == ["load a"]
        assert world.loaded("a") == ["load b"]

    def test_the_most_beneficial_first(self) -> None:
        world = predictive("abcd", places=9)
        foresee(world, "a", p=0.5)
        foresee(world, "b", p=0.9)
        assert world.decide() == ["load b"]

    def test_is_forgotten_once_it_is_pointless(self) -> None:
        world = predictive()
        world.make_ready("a")
        foresee(world, "a")
        foresee(world, "b", within=-1.0)
        foresee(world, "c")
        world.slot("c").retry_at = world.now + 5
        foresee(world, "ghost")
        assert world.decide() == []
        assert world.planner.state.forecasts == {}

    def test_a_speculative_load_makes_way_for_demand_when_most_is_left(self) -> None:
        world = predictive(places=9, models={"slow": model(load_time=100.0)})
        foresee(world, "slow")
        assert world.decide() == ["load slow"]
        world.wait("a")
        assert world.decide() == ["cancel slow"]
        assert outcomes(world) == {}, "it may still come true"
        assert world.decide() == ["load a"]
        assert world.unloaded("slow") == []
        assert world.loaded("a") == ["release a", "load slow"]
        world.pass_time(200)
        assert world.decide() == []
        assert outcomes(world) == {"wasted": 1}


class TestEvictingForAGuess:
    def full(self, **changes: object) -> World:
        world = predictive("abc", places=2, may_evict=True, **changes)
        world.make_ready("a", "b")
        world.pass_time(3 * 86400)
        past = world.planner.history.models["c"]
        for n in range(200):
            past.arrived(world.now - 2000 + 10 * n, is_idle=True)
            past.ended(world.now - 2000 + 10 * n)
        return world

    def test_a_sure_thing_may(self) -> None:
        world = self.full()
        foresee(world, "c")
        assert world.decide() == ["unload a"]
        assert world.unloaded("a") == ["load c"]

    @pytest.mark.parametrize(("cause", "p"), [("seasonal", 0.9), ("periodic", 0.5)])
    def test_a_vague_one_may_not(self, cause: str, p: float) -> None:
        world = self.full()
        foresee(world, "c", cause, p)
        assert world.decide() == []
        world.pass_time(DUE_IN_S)
        assert world.decide() == []
        assert outcomes(world) == {}
        assert world.planner.state.ledger.is_open("c")

    def test_not_what_is_worth_more(self) -> None:
        world = self.full()
        for name in "ab":
            past = world.planner.history.models[name]
            for n in range(400):
                past.arrived(world.now - 2000 + 5 * n, is_idle=True)
                past.ended(world.now - 2000 + 5 * n)
        foresee(world, "c")
        assert world.decide() == []

    def test_not_what_someone_else_has_loaded(self) -> None:
        world = self.full()
        world.slot("a").is_theirs = world.slot("b").is_theirs = True
        foresee(world, "c")
        assert world.decide() == []

    def test_the_sooner_it_is_needed_the_more_it_may_push_out(self) -> None:
        for due_in, decided in ((20.0, ["unload a"]), (4000.0, [])):
            world = predictive("abc", places=2, may_evict=True)
            world.make_ready("a", "b")
            for name in "ab":
                past = world.planner.history.models[name]
                for n in range(20):
                    past.arrived(world.now + 600 * n, is_idle=True)
                    past.ended(world.now + 600 * n)
            world.pass_time(600 * 20)
            world.oracle.hints = [Forecast("c", "periodic", world.now + due_in, world.now + 2 * due_in, 1.0)]
            assert world.decide() == decided, due_in

    def test_not_what_is_expected_or_was_just_foreseen(self) -> None:
        world = self.full()
        world.oracle.expected = {"a"}
        world.planner.state.ledger.open(
            Forecast("b", "periodic", world.now, world.now + 99, 1.0), world.now, 1.0
        )
        foresee(world, "c")
        assert world.decide() == []


class TestHints:
    def idle(self, world: World, name: str) -> list[str]:
        world.oracle.hints = [IdleHint(name, "long idle")]
        return world.decide()

    def test_an_idle_model_goes(self) -> None:
        world = World()
        world.make_ready("a")
        assert self.idle(world, "a") == ["unload a"]

    def test_not_when_it_is_busy_pinned_foreseen_or_gone(self) -> None:
        world = World(places=9)
        world.make_ready("a", "b", "c")
        world.request("a")
        world.slot("b").is_pinned = True
        world.planner.state.ledger.open(Forecast("c", "boot", START, START + 9e9, 1.0), world.now, 1.0)
        for name in ("a", "b", "c", "ghost"):
            assert self.idle(world, name) == []
        world.planner.backend.unloaded("a", world.now)
        assert self.idle(world, "a") == []

    def test_not_when_we_only_observe(self) -> None:
        world = World(mode="observe")
        world.lists({"a": "ready"})
        assert self.idle(world, "a") == []

    def test_forecasts_of_the_predictor_are_taken_up(self) -> None:
        world = predictive()
        world.oracle.hints = [Forecast("a", "periodic", world.now, world.now + 60, 0.9)]
        assert world.decide() == ["load a"]

    def test_seasons_are_asked_for_every_ten_minutes(self) -> None:
        world = predictive()
        world.oracle.of_season = [Forecast("a", "seasonal", world.now, world.now + 900, 0.9)]
        assert world.decide() == ["load a"]
        world.pass_time(599)
        world.decide()
        assert world.oracle.asked_for_season == [["a", "b", "c"]]
        world.pass_time(1)
        world.decide()
        assert world.oracle.asked_for_season[1:] == [["b", "c"]]

    def test_successors_are_loaded_ahead(self) -> None:
        world = predictive(places=9)
        world.make_ready("a")
        world.pass_time(5)
        world.oracle.triggered = [Forecast("b", "successor", world.now, world.now + 60, 0.9)]
        assert world.planner.observe("a", world.now)
        assert world.decide() == ["load b"]


class TestOrders:
    def test_evict_as_demand_does(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.planner.order("b", world.now)
        assert world.decide() == ["unload a"]
        assert world.unloaded("a") == ["load b"]

    def test_wait_for_demand_and_for_a_loader(self) -> None:
        world = World(places=3)
        world.wait("b")
        world.planner.order("a", world.now)
        assert world.decide() == ["load b"]
        assert world.loaded("b") == ["release b", "load a"]

    def test_lapse(self) -> None:
        world = World(places=1)
        world.make_ready("a")
        world.request("a")
        world.planner.order("b", world.now)
        assert world.decide() == []
        world.pass_time(1e6)
        assert world.decide() == []
        assert world.planner.state.orders == {}

    def test_are_done_when_the_model_is_loaded(self) -> None:
        world = World()
        world.make_ready("a")
        world.planner.order("a", world.now)
        assert world.decide() == []
        assert world.planner.state.orders == {}


class TestBootLimits:
    def test_what_made_way_for_demand_is_loaded_later(self) -> None:
        world = predictive("a", places=9, models={"slow": model(load_time=100.0)})
        world.planner.state.boot.append(Forecast("slow", "boot", world.now, world.now, 0.5))
        assert world.decide() == ["load slow"]
        world.wait("a")
        assert world.decide() == ["cancel slow"]
        world.unloaded("slow")
        assert world.loaded("a") == ["release a", "load slow"]

    def test_what_does_not_fit_is_passed_over(self) -> None:
        world = predictive("ab", places=2, models={"big": model(size=3 * GIB)})
        boot = world.planner.state.boot
        boot.extend(Forecast(name, "boot", world.now, world.now, 0.5) for name in ("big", "a"))
        assert world.decide() == ["load a"]
        assert not boot

    def test_nothing_that_is_loaded_already(self) -> None:
        world = predictive("ab")
        world.make_ready("a")
        world.planner.state.boot.append(Forecast("a", "boot", world.now, world.now, 0.5))
        assert world.decide() == []
