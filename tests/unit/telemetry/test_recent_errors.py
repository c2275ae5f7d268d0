from __future__ import annotations

from proxy.telemetry.recent_errors import RecentErrors
from tests.unit.telemetry.calls import a_call, an_end


def test_equal_failures_are_told_once_with_their_count() -> None:
    errors = RecentErrors()
    for n in range(3):
        end = an_end(outcome="upstream_error", status=502, reason="reset")
        errors.record(a_call(request_id=b"r-%d" % n), end, f"t{n}")
    (group,) = errors.newest_first()
    assert (group.outcome, group.reason, group.status, group.route, group.model) == (
        "upstream_error",
        "reset",
        502,
        "infer",
        "iris",
    )
    assert (group.count, group.first_at, group.last_at, group.last_request_id) == (3, "t0", "t2", "r-2")


def test_the_newest_come_first() -> None:
    errors = RecentErrors()
    for n, reason in enumerate(["reset", "draining", "reset"]):
        errors.record(a_call(), an_end(outcome="shed", status=503, reason=reason), f"t{n}")
    assert [group.reason for group in errors.newest_first()] == ["reset", "draining"]


def test_the_table_is_bounded() -> None:
    errors = RecentErrors(most=2)
    for n, reason in enumerate(["a", "b", "a", "c"]):
        errors.record(a_call(), an_end(outcome="shed", status=503, reason=reason), f"t{n}")
    assert [group.reason for group in errors.newest_first()] == ["c", "a"]


def test_what_clients_wrote_is_made_printable() -> None:
    errors = RecentErrors()
    end = an_end("m\n" * 500, outcome="shed", status=503, reason="draining")
    errors.record(a_call(request_id=b"\x1b[2J"), end, "t0")
    (group,) = errors.newest_first()
    assert group.model.isprintable()
    assert group.last_request_id == r"\x1b[2J"
