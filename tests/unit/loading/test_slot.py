"""A model's slot: which requests are merely counted, and which are looked at."""

from __future__ import annotations

import pytest

from proxy.loading.history import ModelHistory
from proxy.loading.slot import Slot, State
from tests.unit.loading.worlds import START, model


def slot(state: State = State.READY, *, has_looked: bool = True) -> Slot:
    """An idle model; `has_looked` says that a request has just been looked at from its start to its end."""
    made = Slot("m", model(), ModelHistory(START), state)
    if has_looked:
        made.counted_at = made.ended_at = START
        made.is_settled = True
    return made


def test_shares_its_pasts_cost() -> None:
    one = slot()
    assert one.cost is one.past.cost


class TestStarts:
    def test_are_merely_counted_within_a_second_of_a_look(self) -> None:
        one = slot()
        assert one.begins(START + 0.5)
        assert (one.in_flight, one.uncounted, one.last_used) == (1, 1, START + 0.5)

    @pytest.mark.parametrize("later", [1.0, -0.1])
    def test_are_looked_at_once_a_second_and_when_the_clock_steps_back(self, later: float) -> None:
        assert not slot().begins(START + later)

    def test_are_looked_at_at_first(self) -> None:
        assert not slot(has_looked=False).begins(START)

    @pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
    def test_of_a_model_that_is_not_ready_are_looked_at(self, state: State) -> None:
        assert not slot(state).begins(START)

    def test_of_a_model_that_is_drained_are_looked_at(self) -> None:
        one = slot()
        one.is_draining = True
        assert not one.begins(START)


class TestEnds:
    def test_are_merely_counted_while_the_model_has_been_seen_idle(self) -> None:
        one = slot()
        one.begins(START)
        assert one.ends(START + 0.5)
        assert (one.in_flight, one.past.last_end) == (0, START + 0.5)

    @pytest.mark.parametrize("later", [1.0, -0.1])
    def test_are_looked_at_once_a_second_and_when_the_clock_steps_back(self, later: float) -> None:
        one = slot()
        one.begins(START)
        assert not one.ends(START + later)

    def test_that_leave_the_model_idle_are_looked_at_after_a_start_that_was(self) -> None:
        one = slot()
        one.is_settled = False
        one.begins(START)
        one.begins(START)
        assert one.ends(START), "another is in flight"
        assert not one.ends(START)

    def test_of_a_model_that_is_drained_are_looked_at(self) -> None:
        one = slot()
        one.begins(START)
        one.is_draining = True
        assert not one.ends(START)

    def test_too_many_do_no_harm(self) -> None:
        one = slot()
        one.ends(START)
        assert one.in_flight == 0


def test_good_answers_are_summed_up() -> None:
    one = slot()
    one.answered(START, 0.5)
    one.answered(START + 1, 1.5)
    assert (one.answers, one.answers_s, one.answers_from) == (2, 2.0, START)


def test_holds_memory_from_the_start_of_a_load_to_the_end_of_an_unload() -> None:
    held = {state for state in State if slot(state).is_resident}
    assert held == {State.LOADING, State.READY, State.UNLOADING}
