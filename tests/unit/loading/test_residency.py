"""Residency: memory accounting, room, groups, counts, churn."""

from __future__ import annotations

from math import inf

from proxy.loading.baselines import Lru
from proxy.loading.costs import LoadCost
from proxy.loading.history import ModelHistory
from proxy.loading.residency import Residency
from proxy.loading.slot import Slot, State
from tests.unit.loading.worlds import GIB, model, policy


def past(load_s: float, size: int) -> ModelHistory:
    return ModelHistory(0.0, LoadCost(load_s, size))


class Shelf:
    """Slots of `sizes` GiB, used in the order of their names; ready unless said otherwise."""

    def __init__(self, places: float, sizes: dict[str, float], *, max_models: int = 0) -> None:
        self.residency = Residency(policy(budget=int(places * GIB), max_models=max_models), Lru())
        for at, (name, size) in enumerate(sizes.items()):
            self.add(name, size, at)

    def add(self, name: str, size: float, at: float = 0.0, **declared: object) -> Slot:
        slot = Slot(name, model(**declared), past(10.0, int(size * GIB)), last_used=at)
        self.residency.slots[name] = slot
        self.residency.eviction.touched(slot, ModelHistory(at), at)
        self.residency.move(slot, State.READY, at)
        return slot

    def new(self, size: float, **declared: object) -> Slot:
        slot = Slot("new", model(**declared), past(10.0, int(size * GIB)))
        self.residency.slots["new"] = slot
        return slot

    def victims(self, slot: Slot, spoken: float = 0.0) -> str:
        """Names of the victims, ``-`` when it fits, or why there is no room."""
        room = self.residency.room(slot, lambda s: self.residency.may_go(s, 0.0), 0.0, spoken * GIB)
        return "-" if room.fits else room.why or "".join(victim.name for victim in room.victims)


def test_memory_is_held_from_loading_until_unloaded() -> None:
    shelf = Shelf(4, {})
    slot = shelf.new(1)
    held = []
    for state in (State.LOADING, State.READY, State.UNLOADING, State.UNLOADED, State.FAILED):
        shelf.residency.move(slot, state, 0.0)
        held.append(shelf.residency.used // GIB)
    assert held == [1, 1, 1, 0, 0]
    assert shelf.residency.residents == 0


def test_what_was_reserved_stays_until_it_is_known_better() -> None:
    shelf = Shelf(4, {})
    slot = shelf.new(1)
    shelf.residency.move(slot, State.LOADING, 0.0)
    slot.cost.declare(10.0, 3 * GIB)
    assert shelf.residency.used == GIB
    shelf.residency.resize(slot)
    assert shelf.residency.used == 3 * GIB
    shelf.residency.move(slot, State.UNLOADED, 0.0)
    shelf.residency.resize(slot)
    assert shelf.residency.used == 0


def test_fits_into_free_memory() -> None:
    shelf = Shelf(2, {"a": 1})
    assert shelf.victims(shelf.new(1)) == "-"
    assert shelf.residency.free() == GIB


def test_without_a_budget_everything_fits() -> None:
    shelf = Shelf(0, {"a": 1})
    assert shelf.victims(shelf.new(1000)) == "-"
    assert shelf.residency.free() == inf
    assert shelf.residency.reserve() == 0


def test_evicts_in_order_until_it_fits() -> None:
    assert Shelf(3, {"a": 1, "b": 1, "c": 1}).victims(Slot("x", model(), past(1.0, 2 * GIB))) == "ab"


def test_lets_off_victims_that_turned_out_unnecessary() -> None:
    shelf = Shelf(6, {"a": 1, "b": 2, "c": 3})
    assert shelf.victims(shelf.new(3)) == "ab"
    assert Shelf(4, {"a": 1, "b": 3}).victims(Slot("x", model(), past(1.0, 3 * GIB))) == "b"


def test_says_what_is_short() -> None:
    shelf = Shelf(1, {"a": 1})
    shelf.residency.slots["a"].is_pinned = True
    assert "bytes short" in shelf.victims(shelf.new(1))


def test_memory_that_is_being_freed_counts_as_coming() -> None:
    shelf = Shelf(2, {"a": 1, "b": 1})
    shelf.residency.move(shelf.residency.slots["a"], State.UNLOADING, 0.0)
    assert shelf.victims(shelf.new(1)) == "", "nobody else has to go"
    assert shelf.victims(shelf.residency.slots["new"], spoken=1) == "b", "unless that memory is promised"


def test_pinned_kept_and_busy_states_do_not_go() -> None:
    shelf = Shelf(4, {"a": 1, "b": 1, "c": 1, "d": 1})
    slots = shelf.residency.slots
    slots["a"].is_pinned = True
    slots["b"].policy = model(unload="never")
    slots["c"].state = State.LOADING
    assert shelf.victims(shelf.new(1)) == "d"
    shelf.residency.can_unload = False
    assert "short" in shelf.victims(slots["new"])


def test_a_count_limit_evicts_as_memory_does() -> None:
    shelf = Shelf(0, {"a": 1, "b": 1}, max_models=2)
    assert not shelf.residency.fits(shelf.new(1))
    assert shelf.victims(shelf.residency.slots["new"]) == "a"
    shelf.residency.move(shelf.residency.slots["a"], State.UNLOADED, 0.0)
    assert shelf.victims(shelf.residency.slots["new"]) == "-"


def test_a_group_holds_one_model() -> None:
    shelf = Shelf(9, {"a": 1})
    rival = shelf.add("b", 1, group="g")
    slot = shelf.new(1, group="g")
    assert shelf.victims(slot) == "b"
    rival.is_pinned = True
    assert "group" in shelf.victims(slot)
    rival.is_pinned = False
    shelf.residency.move(rival, State.UNLOADING, 0.0)
    assert shelf.victims(slot) == ""


def test_a_rival_is_not_evicted_twice() -> None:
    shelf = Shelf(2, {"a": 1})
    shelf.add("b", 1, group="g")
    assert shelf.victims(shelf.new(2, group="g")) == "ba"


def test_the_reserve_is_the_largest_model_or_a_tenth() -> None:
    assert Shelf(8, {"a": 1, "b": 3}).residency.reserve() == 3 * GIB
    assert Shelf(100, {"a": 1}).residency.reserve() == 10 * GIB
    assert Shelf(100, {}).residency.reserve() == 10 * GIB


def test_says_what_can_never_be() -> None:
    shelf = Shelf(4, {"a": 3}, max_models=1)
    assert shelf.residency.impossible(shelf.new(4)) == ""
    shelf.residency.slots["a"].is_pinned = True
    why = shelf.residency.impossible(shelf.residency.slots["new"])
    assert why == "needs 4096 MiB, 1024 MiB are not pinned"
    assert "places" in shelf.residency.impossible(shelf.new(1))
    assert shelf.residency.impossible(shelf.residency.slots["a"]) == ""


def test_says_when_the_size_that_does_not_fit_is_a_guess() -> None:
    guessed = Slot("guessed", model(), ModelHistory(0.0))
    assert "needs 1024 MiB (a guess" in Shelf(0.5, {}).residency.impossible(guessed)


def test_churn_is_the_share_of_loads_that_undo_an_unload() -> None:
    shelf = Shelf(0, {"a": 1})
    slot, residency = shelf.residency.slots["a"], shelf.residency
    assert residency.churn == 0.0
    now = 0.0
    for pause in (700.0, 100.0, 100.0, 100.0):
        residency.move(slot, State.UNLOADED, now)
        now += pause
        residency.move(slot, State.LOADING, now)
        residency.move(slot, State.READY, now)
    assert residency.churn == 0.75
    assert not residency.is_thrashing, "four loads prove nothing"
    for _ in range(10):
        residency.move(slot, State.UNLOADED, now)
        residency.move(slot, State.LOADING, now)
        residency.move(slot, State.READY, now)
    assert residency.is_thrashing


def test_keeps_track_of_what_loads() -> None:
    shelf = Shelf(0, {"a": 1, "b": 1})
    for name in "ba":
        shelf.residency.move(shelf.residency.slots[name], State.LOADING, 0.0)
    assert list(shelf.residency.loading) == ["b", "a"]
    shelf.residency.move(shelf.residency.slots["b"], State.READY, 0.0)
    assert list(shelf.residency.loading) == ["a"]


def test_leaving_ends_draining() -> None:
    shelf = Shelf(0, {"a": 1})
    slot = shelf.residency.slots["a"]
    slot.is_draining = True
    shelf.residency.move(slot, State.UNLOADING, 0.0)
    assert not slot.is_draining
