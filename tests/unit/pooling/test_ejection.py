from __future__ import annotations

import pytest

from proxy.pooling.ejection import Ejection, is_failure_status
from proxy.pooling.policy import EjectPolicy


def circuit(consecutive: int = 3) -> Ejection:
    return Ejection(EjectPolicy.model_validate({"consecutive": consecutive, "base": "5s", "max": "60s"}))


def eject(ejection: Ejection, now: float, jitter: float = 1.0) -> None:
    while not ejection.failed(now, jitter):
        pass


def test_failures_in_a_row_eject() -> None:
    ejection = circuit()
    assert [ejection.failed(0.0, 1.0) for _ in range(3)] == [False, False, True]
    assert ejection.is_ejected


def test_a_success_in_between_starts_the_count_over() -> None:
    ejection = circuit()
    ejection.failed(0.0, 1.0)
    ejection.failed(0.0, 1.0)
    assert not ejection.succeeded(0.0), "nothing to reinstate"
    assert not ejection.failed(0.0, 1.0)
    assert not ejection.is_ejected


def test_zero_turns_it_off() -> None:
    ejection = circuit(0)
    assert not any(ejection.failed(0.0, 1.0) for _ in range(100))


@pytest.mark.parametrize(("jitter", "span_s"), [(0.0, 2.5), (1.0, 5.0)])
def test_the_span_is_spread_over_its_upper_half(jitter: float, span_s: float) -> None:
    ejection = circuit()
    eject(ejection, 100.0, jitter)
    assert ejection.until == 100.0 + span_s


def test_late_failures_of_old_calls_change_nothing() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    assert not ejection.failed(4.0, 1.0)
    assert ejection.until == 5.0


def test_a_late_success_of_an_old_call_does_not_reinstate() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    assert not ejection.succeeded(1.0)
    assert ejection.is_ejected


def test_one_trial_is_due_when_the_span_is_over() -> None:
    ejection = circuit()
    assert not ejection.is_trial_due(0.0)
    eject(ejection, 0.0)
    assert not ejection.is_trial_due(4.9)
    assert ejection.is_trial_due(5.0)
    ejection.is_on_trial = True
    assert not ejection.is_trial_due(5.0)


def test_a_trial_that_succeeds_reinstates() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    assert ejection.succeeded(5.0, on_trial=True)
    assert not ejection.is_ejected
    assert ejection.failures == 0


def test_a_trial_that_fails_ejects_for_twice_as_long() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    spans = []
    now = 5.0
    for _ in range(5):
        assert ejection.failed(now, 1.0, on_trial=True)
        spans.append(ejection.until - now)
        now = ejection.until
    assert spans == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_trial_of_a_closed_circuit_ejects_too() -> None:
    ejection = circuit()
    assert ejection.failed(0.0, 1.0, on_trial=True)
    assert ejection.until == 5.0


def test_a_relapse_within_a_minute_is_not_forgiven() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    ejection.succeeded(5.0, on_trial=True)
    eject(ejection, 64.0)
    assert ejection.until == 74.0


def test_a_minute_of_good_conduct_is() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    ejection.succeeded(5.0, on_trial=True)
    eject(ejection, 65.0)
    assert ejection.until == 70.0


def test_a_reset_forgets_everything() -> None:
    ejection = circuit()
    eject(ejection, 0.0)
    ejection.reset()
    assert not ejection.is_ejected
    eject(ejection, 1.0)
    assert ejection.until == 6.0


@pytest.mark.parametrize(
    ("status", "counts"), [(200, False), (404, False), (429, False), (500, True), (501, False), (503, True)]
)
def test_only_some_server_errors_count(status: int, counts: bool) -> None:
    assert is_failure_status(status, has_alternative=True) is counts
    assert not is_failure_status(status, has_alternative=False), (
        "the only backend is never cut off for its words"
    )
