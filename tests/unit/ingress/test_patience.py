"""How long a client may take, on a clock of the test's own."""

from __future__ import annotations

import pytest

from proxy.ingress.patience import Action, Attention, Patience, Phase
from proxy.ingress.policy import ServerTimeoutPolicy

POLICY = ServerTimeoutPolicy.model_construct(header=10.0, body_stall=30.0, keepalive=75.0, write_stall=60.0)

Look = tuple[float, Phase, int, int, int, Action]


def judged(looks: list[Look]) -> None:
    """Each look is (now, phase, mark, received, unsent) and the action that must follow."""
    subject = Patience(POLICY, 240, 0.0)
    for now, phase, mark, received, unsent, action in looks:
        assert subject.judge(now, phase, mark, received=received, unsent=unsent) == action, f"at {now}"


def test_a_connection_must_say_something_soon() -> None:
    judged([(5, "idle", 0, 0, 0, ""), (10, "idle", 0, 0, 0, ""), (11, "idle", 0, 0, 0, "close")])


def test_an_idle_connection_is_kept_for_a_while() -> None:
    judged([(1, "idle", 1, 0, 0, ""), (70, "idle", 1, 0, 0, ""), (77, "idle", 1, 0, 0, "close")])


def test_a_request_between_two_looks_starts_the_wait_anew() -> None:
    judged(
        [
            (1, "idle", 1, 0, 0, ""),
            (70, "idle", 2, 0, 0, ""),
            (140, "idle", 2, 0, 0, ""),
            (146, "idle", 2, 0, 0, "close"),
        ]
    )


def test_a_head_has_one_deadline() -> None:
    judged([(1, "head", 0, 0, 0, ""), (9, "head", 0, 0, 0, ""), (12, "head", 0, 0, 0, "refuse")])


def test_a_call_may_take_as_long_as_it_takes() -> None:
    judged([(1, "busy", 1, 0, 0, ""), (1000, "busy", 1, 0, 0, "")])


def test_a_body_must_not_stall() -> None:
    judged([(1, "body", 1, 9000, 0, ""), (2, "body", 1, 90000, 0, ""), (31, "body", 1, 90000, 0, ""),
            (33, "body", 1, 90000, 0, "refuse")])  # fmt: skip


def test_a_body_must_keep_up_an_average() -> None:
    judged([(0, "body", 1, 0, 0, ""), (5, "body", 1, 1, 0, ""), (6, "body", 1, 240, 0, ""), (10, "body", 1, 1200, 0, ""),
            (12, "body", 1, 1210, 0, "refuse")])  # fmt: skip


def test_a_body_that_waits_for_the_backend_is_not_measured() -> None:
    judged(
        [
            (0, "body", 1, 0, 0, ""),
            (4, "busy", 1, 10, 0, ""),
            (90, "body", 1, 10, 0, ""),
            (94, "body", 1, 20, 0, ""),
        ]
    )


def test_another_body_is_measured_from_its_own_start() -> None:
    judged([(0, "body", 1, 5000, 0, ""), (20, "body", 1, 10, 0, ""), (24, "body", 1, 11, 0, "")])


@pytest.mark.parametrize("phase", ["idle", "busy"])
def test_an_answer_must_be_taken(phase: Phase) -> None:
    judged(
        [
            (0, phase, 1, 0, 100, ""),
            (50, phase, 1, 0, 99, ""),
            (70, phase, 1, 0, 150, ""),
            (111, phase, 1, 0, 150, "abort"),
        ]
    )


def test_an_answer_that_was_taken_is_no_stall() -> None:
    judged(
        [
            (0, "busy", 1, 0, 100, ""),
            (59, "busy", 1, 0, 0, ""),
            (118, "busy", 1, 0, 100, ""),
            (170, "busy", 1, 0, 100, ""),
        ]
    )


def test_while_the_process_stands_still_no_clients_time_passes() -> None:
    attention = Attention(1.0, 100.0)
    assert attention.scan(101.0) == 101.0
    assert attention.scan(102.5) == 102.5, "a scan may come somewhat late"
    assert attention.scan(3600.0) == 104.5
    assert attention.scan(3601.0) == attention.instant == 105.5
