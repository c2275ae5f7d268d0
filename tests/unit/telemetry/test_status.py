from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.build import BUILD
from proxy.telemetry.policy import AccessLogPolicy
from proxy.telemetry.status import StatusReport
from proxy.telemetry.telemetry import Telemetry
from tests.support.manual_clock import ManualClock
from tests.unit.telemetry.calls import a_call, an_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.telemetry.ended import Outcome


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0.0)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def telemetry(clock: ManualClock, pipe: tuple[int, int]) -> Telemetry:
    return Telemetry(clock, clock.now, AccessLogPolicy(), version="1.2.3", log_fd=pipe[1])


def test_the_layout_is_a_promise(telemetry: Telemetry, clock: ManualClock) -> None:
    report = StatusReport(telemetry, clock.now, lambda: "ready", version="1.2.3", config_hash="abc")
    report.add_listener("http", "http://127.0.0.1:8080")
    report.add_pool("model", lambda: {"idle": 3})
    report.add_lanes("model", lambda: {"in_flight": 1})
    telemetry.metrics.sample("requests_in_flight", lambda: [((), 4)])
    telemetry.metrics.sample("queue_depth", lambda: [(("iris",), 2)])
    call = a_call()
    call.batch, call.queue_s = b"size=2", 0.004
    telemetry.metrics.batch.batched("iris", 2, "full", 0.004)
    telemetry.metrics.batch.refused("iris", "shape")
    telemetry.metrics.batch.isolated("iris")
    telemetry.record(call, an_end(duration_s=0.02))
    telemetry.record(a_call(), an_end(outcome="upstream_error", status=502, duration_s=0.02, reason="reset"))
    clock.advance(90.5)
    assert msgspec.json.decode(report.as_json()) == {
        "schema": 1,
        "version": "1.2.3",
        "build": BUILD,
        "state": "ready",
        "started_at": "1970-01-01T00:00:00.000Z",
        "now": "1970-01-01T00:01:30.500Z",
        "uptime_s": 90.5,
        "config_hash": "abc",
        "loading": None,
        "config_current": True,
        "in_flight": 4,
        "listeners": [{"name": "http", "address": "http://127.0.0.1:8080"}],
        "models": [
            {
                "name": "iris",
                "requests": 2,
                "outcomes": {"ok": 1, "upstream_error": 1},
                "p50_s": 0.0175,
                "p99_s": 0.02485,
                "queue_depth": 2,
                "queue_wait_p50_s": 0.00375,
                "queue_wait_p99_s": 0.004975,
                "batches": {
                    "count": 1,
                    "items_mean": 2.0,
                    "items_p50": 2,
                    "items_p99": 2,
                    "wait_mean_s": 0.004,
                    "triggers": {"full": 1},
                    "refused": {"shape": 1},
                    "isolations": 1,
                },
            }
        ],
        "pools": {"model": {"idle": 3}},
        "lanes": {"model": {"in_flight": 1}},
        "recent_errors": [
            {
                "outcome": "upstream_error",
                "reason": "reset",
                "status": 502,
                "route": "infer",
                "model": "iris",
                "count": 1,
                "first_at": "1970-01-01T00:00:00.000Z",
                "last_at": "1970-01-01T00:00:00.000Z",
                "last_request_id": "r-1",
            }
        ],
    }


def test_a_model_that_nobody_asked_for_is_not_listed(telemetry: Telemetry, clock: ManualClock) -> None:
    report = StatusReport(telemetry, clock.now, lambda: "starting", version="1.2.3")
    telemetry.metrics.is_config_current = False
    document = report.build()
    assert document.models == []
    assert (document.state, document.config_current, document.in_flight) == ("starting", False, 0)


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "remembered"),
    [
        ("ok", 200, "", False),
        ("client_error", 404, "", False),
        ("client_error", 413, "body_too_large", True),
        ("upstream_error", 500, "", True),
        ("shed", 429, "overloaded", True),
        ("cancelled", 499, "client_gone", False),
    ],
)
def test_failures_are_remembered_and_clients_own_mistakes_are_not(
    telemetry: Telemetry, outcome: Outcome, status: int, reason: str, remembered: bool
) -> None:
    telemetry.record(a_call(), an_end(outcome=outcome, status=status, reason=reason))
    assert len(telemetry.errors.newest_first()) == int(remembered)


async def test_calls_are_logged_until_the_end(telemetry: Telemetry, pipe: tuple[int, int]) -> None:
    await telemetry.start()
    telemetry.record(a_call(), an_end())
    await telemetry.drain(0.0)
    await telemetry.stop()
    assert msgspec.json.decode(os.read(pipe[0], 10_000))["request_id"] == "r-1"


async def test_with_the_log_off_nothing_is_written(clock: ManualClock, pipe: tuple[int, int]) -> None:
    policy = AccessLogPolicy(format="off")
    telemetry = Telemetry(clock, clock.now, policy, version="1.2.3", log_fd=pipe[1])
    await telemetry.start()
    telemetry.record(a_call(), an_end())
    await telemetry.stop()
    os.set_blocking(pipe[0], False)
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


async def test_dropped_lines_are_counted(telemetry: Telemetry) -> None:
    assert telemetry.metrics.sampled("access_log_dropped_total") == {(): 0}
