from __future__ import annotations

import msgspec

from proxy.telemetry.access_log import AccessLog, Stamper
from proxy.telemetry.policy import AccessLogPolicy
from tests.unit.telemetry.calls import a_call, an_end


def a_stamp() -> str:
    return "2030-01-02T03:04:05.678Z"


def statuses(lines: list[bytes]) -> list[int]:
    return [msgspec.json.decode(line)["status"] for line in lines]


def test_the_time_is_written_in_utc_with_milliseconds() -> None:
    times = iter([0.0, 0.9996, 1.25, 1893553445.625])
    stamper = Stamper(lambda: next(times))
    assert [stamper.now() for _ in range(4)] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.250Z",
        "2030-01-02T03:04:05.625Z",
    ]


def test_every_call_is_logged_by_default() -> None:
    lines: list[bytes] = []
    log = AccessLog(AccessLogPolicy(), a_stamp, lines.append)
    log.record(a_call(), an_end())
    log.record(a_call(), an_end(outcome="shed", status=503))
    assert statuses(lines) == [200, 503]


def test_good_and_bad_calls_are_thinned_apart() -> None:
    lines: list[bytes] = []
    log = AccessLog(AccessLogPolicy.model_validate({"ok": "50%", "errors": "100%"}), a_stamp, lines.append)
    for _ in range(4):
        log.record(a_call(), an_end())
        log.record(a_call(), an_end(outcome="client_error", status=404))
    assert statuses(lines).count(200) == 2
    assert statuses(lines).count(404) == 4


def test_the_text_form_is_text() -> None:
    lines: list[bytes] = []
    AccessLog(AccessLogPolicy(format="text"), a_stamp, lines.append).record(a_call(), an_end())
    assert lines[0].startswith(b"ts=2030-01-02T03:04:05.678Z request_id=r-1 ")
