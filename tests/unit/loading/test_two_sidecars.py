"""Two proxies before one backend do not know of each other, and do not fight either."""

from __future__ import annotations

import pytest

from tests.unit.loading.shared import LISTED_EVERY_S, LOAD_S, Shared

SPAN_S = 600


def every(span_s: float, since: float = 0.0, until: float = SPAN_S) -> list[float]:
    return [since + span_s * turn for turn in range(int((until - since) / span_s))]


@pytest.mark.parametrize("idle_unload", ["off", "auto", 60.0])
def test_models_that_fit_are_loaded_once_whoever_uses_them(idle_unload: object) -> None:
    world = Shared(idle_unload=idle_unload)
    world.ask(0, "a", every(1, 10))
    world.ask(1, "b", every(1, 10))
    world.ask(1, "a", [30.0, 200.0])
    world.play(SPAN_S)
    assert world.loads == {"a": 1, "b": 1}
    assert [sum(sidecar.lost.values()) for sidecar in world.sidecars] == [0, 0]


def test_too_many_models_are_swapped_no_more_often_than_one_proxy_would() -> None:
    loads = []
    for shares in ((0, 0, 1), (0, 0, 0)):
        world = Shared(sidecars=1 + max(shares))
        for name, index, since, span in zip("abc", shares, (10, 10.3, 40), (1, 1, 60), strict=True):
            world.ask(index, name, every(span, since))
        world.play(SPAN_S + 60)
        assert sum(len(sidecar.waits) for sidecar in world.sidecars) == 590 + 589 + 9
        loads.append(world.loads.total())
    assert loads[0] <= loads[1]


def test_what_the_other_has_just_loaded_stays_for_a_while() -> None:
    world = Shared(places=1)
    world.ask(0, "a", every(0.5, 10, 120))
    world.ask(1, "b", every(0.5, 10.1, 120))
    world.play(180)
    assert world.loads.total() <= 110 / LOAD_S / 2
    assert all(max(sidecar.waits) <= 8 * LOAD_S for sidecar in world.sidecars)


def test_what_the_other_unloads_is_noticed_and_not_fought_for() -> None:
    world = Shared()
    world.ask(0, "a", every(1, 10, 30))
    world.play(40)
    world.sidecars[1].planner.evict("a", world.now)
    world.wake(1)
    world.play(LISTED_EVERY_S)
    assert not world.sidecars[0].planner.is_ready("a")
    world.play(100)
    assert world.loads["a"] == 1
    world.ask(0, "a", [world.elapsed + 1])
    world.play(10)
    assert world.loads["a"] == 2


def test_after_a_restart_of_the_backend_each_model_is_loaded_once_more() -> None:
    world = Shared(names="abcd", places=4, mode="predictive")
    for index, names in enumerate(("ab", "cd")):
        for name in names:
            world.ask(index, name, every(1, 10, 200))
    world.play(250)
    world.restart()
    world.play(100)
    assert set(world.states.values()) == {"ready"}
    assert world.loads.total() <= 4 + 6
