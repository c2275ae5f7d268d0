"""The state of a plan: its one timer."""

from math import inf

from tests.unit.loading.worlds import World


def test_wakes_at_the_earliest_instant_that_lies_ahead() -> None:
    state = World("a").planner.state
    for at in (5.0, 30.0, 20.0):
        state.wake(at, now=10.0)
    assert state.wake_at == 20.0


def test_what_is_past_wakes_nobody() -> None:
    state = World("a").planner.state
    state.wake(10.0, now=10.0)
    assert state.wake_at == inf
