from __future__ import annotations

import logging

import pytest

from proxy.telemetry.error_log import ErrorLog
from tests.support.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def errors(clock: ManualClock) -> ErrorLog:
    return ErrorLog(logging.getLogger("tests.error_log"), clock.now, every_s=1.0)


def test_a_flood_becomes_one_line_a_second_with_a_count(
    errors: ErrorLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        errors.report("bad_request", "cannot parse a request from %s", b"10.0.0.9")
    clock.advance(1.0)
    errors.report("bad_request", "cannot parse a request from %s", b"10.0.0.8")
    clock.advance(1.0)
    errors.report("bad_request", "cannot parse a request from %s", b"10.0.0.7")
    assert caplog.messages == [
        "bad_request: cannot parse a request from 10.0.0.9",
        "bad_request: cannot parse a request from 10.0.0.8 (and 999 more like it)",
        "bad_request: cannot parse a request from 10.0.0.7",
    ]


def test_each_reason_has_its_own_allowance(errors: ErrorLog, caplog: pytest.LogCaptureFixture) -> None:
    errors.report("bad_request", "one")
    errors.report("reset", "two")
    assert caplog.messages == ["bad_request: one", "reset: two"]


def test_arguments_are_made_printable(errors: ErrorLog, caplog: pytest.LogCaptureFixture) -> None:
    errors.report("bad_request", "said %s", b"\x1b[2J\nfake")
    assert caplog.messages == [r"bad_request: said \x1b[2J\nfake"]
