from __future__ import annotations

import pytest

from proxy.pooling.health import Health, is_healthy_status, probe_path
from proxy.pooling.policy import HealthPolicy


def health(every: str = "30s", fall: int = 3, rise: int = 1) -> Health:
    policy = HealthPolicy.model_validate({"every": every, "timeout": "2s", "fall": fall, "rise": rise})
    return Health(policy, 0.0)


def probe(subject: Health, *outcomes: bool, now: float = 0.0) -> str:
    """The state after probes with these outcomes."""
    for is_healthy in outcomes:
        subject.probed(now, is_healthy=is_healthy, jitter=0.5)
    return subject.state


def test_an_unknown_endpoint_may_be_tried() -> None:
    subject = health()
    assert subject.state == "starting"
    assert subject.is_usable
    assert subject.next_probe_at == 0.0


def test_the_first_failure_ends_the_benefit_of_the_doubt() -> None:
    subject = health()
    assert probe(subject, False) == "starting"
    assert not subject.is_usable


def test_one_success_is_enough_at_the_start() -> None:
    subject = health(rise=5)
    assert probe(subject, False, True) == "up"
    assert subject.is_usable


def test_an_endpoint_that_never_came_up_is_down() -> None:
    subject = health()
    assert probe(subject, False, False, False) == "down"


def test_one_failure_is_not_yet_down() -> None:
    subject = health()
    assert probe(subject, True, False) == "failing"
    assert subject.is_usable
    assert probe(subject, True) == "up"


def test_it_falls_after_failures_in_a_row() -> None:
    subject = health()
    assert probe(subject, True, False, False, True, False, False) == "failing"
    assert probe(subject, False) == "down"
    assert not subject.is_usable


def test_it_rises_after_successes_in_a_row() -> None:
    subject = health(rise=2)
    assert probe(subject, True, False, False, False, True, False, True) == "down"
    assert probe(subject, True) == "up"


@pytest.mark.parametrize(("jitter", "interval_s"), [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)])
def test_a_healthy_endpoint_is_probed_at_spread_intervals(jitter: float, interval_s: float) -> None:
    subject = health()
    subject.probed(100.0, is_healthy=True, jitter=jitter)
    assert subject.next_probe_at == pytest.approx(100.0 + interval_s)


def test_one_in_trouble_is_probed_fast_and_more_and_more_slowly() -> None:
    subject = health()
    intervals = []
    for _ in range(7):
        probe(subject, False)
        intervals.append(subject.next_probe_at)
    assert intervals == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_starting_endpoint_gets_less_time_to_answer() -> None:
    subject = health()
    timeouts = [subject.timeout_s]
    for _ in range(6):
        probe(subject, False)
        timeouts.append(subject.timeout_s)
    assert timeouts == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_starting_endpoint_does_not_fall_by_running_out_of_less() -> None:
    subject = health(fall=1)
    states = []
    for _ in range(6):
        subject.probed(0.0, is_healthy=False, jitter=0.0, ran_out=True)
        states.append((subject.state, subject.is_hasty))
    assert states == [("starting", True)] * 4 + [("starting", False), ("down", False)]


def test_a_starting_endpoint_falls_by_what_it_says_however_little_time_it_had() -> None:
    subject = health(fall=1)
    assert subject.is_hasty
    assert probe(subject, False) == "down"


def test_a_failing_endpoint_gets_all_the_time() -> None:
    subject = health()
    probe(subject, True)
    assert subject.timeout_s == 2.0
    probe(subject, False)
    assert subject.timeout_s == 2.0


def test_a_suspicion_brings_the_next_probe_forward() -> None:
    subject = health()
    probe(subject, True, now=10.0)
    subject.suspect(20.0)
    assert subject.next_probe_at == 20.0


def test_suspicions_do_not_make_a_probe_storm() -> None:
    subject = health()
    probe(subject, True, now=10.0)
    subject.suspect(10.01)
    assert subject.next_probe_at == 10.05


def test_one_that_is_vouched_for_takes_calls_until_the_next_probe_tells() -> None:
    subject = health()
    probe(subject, True, False, False, False)
    subject.vouch()
    assert subject.state == "failing"
    assert subject.is_usable
    assert probe(subject, False) == "down"
    subject.vouch()
    assert probe(subject, True) == "up"


def test_one_that_is_well_needs_no_voucher() -> None:
    subject = health()
    probe(subject, True)
    subject.vouch()
    assert subject.state == "up"


def test_one_that_was_never_reached_can_be_vouched_for() -> None:
    subject = health()
    probe(subject, False)
    subject.vouch()
    assert subject.is_usable


def test_without_probes_it_counts_as_up() -> None:
    assert health(every="0s").state == "up"


@pytest.mark.parametrize(
    ("path", "protocol", "expected"),
    [
        ("auto", "open-inference", "/v2/health/ready"),
        ("auto", "openai", "/health"),
        ("auto", "generic", ""),
        ("tcp", "openai", ""),
        ("/ready", "openai", "/ready"),
    ],
)
def test_where_health_is_asked(path: str, protocol: str, expected: str) -> None:
    assert probe_path(path, protocol) == expected


@pytest.mark.parametrize(
    ("status", "guessed", "configured"),
    [
        (200, True, True),
        (302, True, True),
        (404, True, False),
        (401, True, False),
        (400, False, False),
        (503, False, False),
    ],
)
def test_what_counts_as_healthy(status: int, guessed: bool, configured: bool) -> None:
    assert is_healthy_status(status, "auto") is guessed
    assert is_healthy_status(status, "/ready") is configured
