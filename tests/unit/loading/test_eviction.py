"""Eviction orders: hit density, GDSF, and the baselines' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.loading.baselines import Clairvoyant, Lru
from proxy.loading.eviction import Gdsf, HitDensity
from proxy.loading.history import History
from proxy.loading.slot import Slot, State
from tests.unit.loading.worlds import GIB, START, model

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.eviction import Eviction

NOW = START + 100_000.0


class Shelf:
    """Models with pasts; a request takes no time."""

    def __init__(self) -> None:
        self.history = History()
        self.slots: dict[str, Slot] = {}

    def add(self, name: str, arrivals: list[float], *, load_s: float = 10.0, size: int = GIB) -> Slot:
        past = self.history.of(name, arrivals[0] if arrivals else START)
        past.cost.declare(load_s, size)
        for at in arrivals:
            past.arrived(at, is_idle=True)
            past.ended(at)
        slot = self.slots[name] = Slot(name, model(), past, State.READY)
        return slot

    def order(self, eviction: Eviction) -> list[str]:
        for name, slot in self.slots.items():
            eviction.touched(slot, self.history.models[name], NOW)
        return sorted(self.slots, key=lambda name: eviction.rank(self.slots[name], NOW))


def every(period: float, count: int = 40, until: float = NOW) -> list[float]:
    return [until - period * n for n in range(count, 0, -1)]


@pytest.mark.parametrize("make", [HitDensity, lambda _: Gdsf()])
def test_slow_small_and_frequent_models_stay(make: Callable[[History], Eviction]) -> None:
    for other in (
        {"load_s": 100.0},
        {"size": GIB // 10},
        {"arrivals": every(10.0, 400)},
    ):
        shelf = Shelf()
        shelf.add("plain", every(100.0))
        shelf.add("better", **({"arrivals": every(100.0)} | other))
        assert shelf.order(make(shelf.history)) == ["plain", "better"]


class TestHitDensity:
    def test_never_used_goes_first(self) -> None:
        shelf = Shelf()
        shelf.add("used", [START])
        shelf.add("never", [])
        assert shelf.order(HitDensity(shelf.history)) == ["never", "used"]

    def test_without_gaps_it_is_least_recently_used(self) -> None:
        shelf = Shelf()
        for name, ago in (("new", 100.0), ("old", 10_000.0), ("middle", 1000.0)):
            shelf.add(name, [NOW - ago])
        assert shelf.order(HitDensity(shelf.history)) == ["old", "middle", "new"]

    def test_a_timer_is_worth_more_the_nearer_its_shot(self) -> None:
        shelf = Shelf()
        shelf.add("fired", every(3600.0, until=NOW + 3500.0))
        shelf.add("nearly", every(3600.0, until=NOW + 200.0))
        assert shelf.order(HitDensity(shelf.history)) == ["fired", "nearly"]

    def test_a_busy_model_counts_as_just_used(self) -> None:
        shelf = Shelf()
        shelf.add("idle", [NOW - 500.0])
        shelf.add("busy", [NOW - 500.0]).in_flight = 1
        assert shelf.order(HitDensity(shelf.history)) == ["idle", "busy"]

    def test_the_horizon_follows_the_age_at_eviction(self) -> None:
        shelf = Shelf()
        slot = shelf.add("m", [NOW - 7200.0])
        eviction = HitDensity(shelf.history)
        for _ in range(100):
            eviction.evicted(slot, NOW)
        assert eviction.horizon_s == pytest.approx(4 * 7200.0, rel=0.01)
        for _ in range(200):
            eviction.evicted(slot, NOW - 7200.0)
        assert eviction.horizon_s == 600.0
        for _ in range(200):
            eviction.evicted(slot, NOW + 1e9)
        assert eviction.horizon_s == 86400.0


class TestGdsf:
    def test_the_clock_ages_those_that_stay(self) -> None:
        shelf = Shelf()
        old = shelf.add("old", every(100.0))
        eviction = Gdsf()
        eviction.touched(old, shelf.history.models["old"], NOW)
        eviction.evicted(old, NOW)
        assert eviction.clock == old.value
        new = shelf.add("new", [NOW])
        eviction.touched(new, shelf.history.models["new"], NOW)
        assert new.value > old.value


def test_lru_is_lru() -> None:
    lru, shelf = Lru(), Shelf()
    for name, at in (("b", 2.0), ("a", 1.0)):
        slot = shelf.add(name, [at])
        lru.touched(slot, shelf.history.models[name], at)
        lru.evicted(slot, at)
    assert lru.rank(shelf.slots["a"], NOW) < lru.rank(shelf.slots["b"], NOW)


def test_the_clairvoyant_knows_what_comes() -> None:
    shelf = Shelf()
    for name in ("soon", "late", "never"):
        shelf.add(name, [START])
    eviction = Clairvoyant([(START, "never", 0.0), (NOW + 10, "soon", 0.0), (NOW + 1000, "late", 0.0)])
    eviction.evicted(shelf.slots["late"], NOW)
    assert shelf.order(eviction) == ["never", "late", "soon"]
