from __future__ import annotations

import math

import pytest

from proxy.errors import (
    BadReply,
    ConnectFailed,
    ConnectTimeout,
    LeaseTimeout,
    NoHealthyEndpoint,
    ReadTimeout,
    Reset,
    UpstreamError,
)
from proxy.exchange import Call, Stream
from proxy.pooling.policy import RetryPolicy
from proxy.pooling.retry import (
    RetryBudget,
    is_idempotent,
    is_retryable_error,
    is_retryable_status,
    retry_after_s,
    wait_s,
)

AUTO = RetryPolicy()


def call(method: bytes = b"POST", *, idempotent: bool = False, streamed: bool = False) -> Call:
    made = Call(method, b"/", (), Stream(None) if streamed else b"{}")
    made.idempotent = idempotent
    return made


# ------------------------------------------------------------------ what may be executed twice
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])
def test_idempotent_methods_are(method: bytes) -> None:
    assert is_idempotent(call(method), AUTO)


def test_a_post_is_not_unless_its_route_says_so() -> None:
    assert not is_idempotent(call(), AUTO)
    assert is_idempotent(call(idempotent=True), AUTO)


def test_the_policy_overrules() -> None:
    assert is_idempotent(call(), RetryPolicy(idempotent="always"))
    assert not is_idempotent(call(b"GET"), RetryPolicy(idempotent="never"))


def test_a_body_in_transit_cannot_be_sent_twice() -> None:
    assert not is_idempotent(call(b"PUT", streamed=True), AUTO)


def test_an_upgrade_is_not_repeated() -> None:
    upgrade = call(b"GET")
    upgrade.upgrade = b"websocket"
    assert not is_idempotent(upgrade, AUTO)


# ------------------------------------------------------------------ verdicts
@pytest.mark.parametrize("error", [ConnectFailed(), ConnectTimeout()])
def test_what_was_never_sent_is_always_sent_again(error: UpstreamError) -> None:
    assert is_retryable_error(error, call(), AUTO)
    assert is_retryable_error(error, call(streamed=True), AUTO)


def test_a_broken_connection_is_retried_for_idempotent_calls_only() -> None:
    assert is_retryable_error(Reset(), call(idempotent=True), AUTO)
    assert not is_retryable_error(Reset(), call(), AUTO)


@pytest.mark.parametrize("error", [ReadTimeout(), BadReply(), LeaseTimeout(), NoHealthyEndpoint()])
def test_nothing_else_is_retried(error: UpstreamError) -> None:
    assert not is_retryable_error(error, call(idempotent=True), AUTO)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, False), (404, False), (429, False), (500, False), (502, True), (503, True), (504, True)],
)
def test_only_unavailability_is_retried(status: int, verdict: bool) -> None:
    assert is_retryable_status(status, call(idempotent=True), AUTO) is verdict
    assert not is_retryable_status(status, call(), AUTO)


# ------------------------------------------------------------------ when
@pytest.mark.parametrize(
    ("value", "span_s"),
    [(b"2", 2.0), (b" 0 ", 0.0), (b"Wed, 21 Oct 2026 07:28:00 GMT", math.inf), (b"-1", math.inf)],
)
def test_retry_after_is_read(value: bytes, span_s: float) -> None:
    assert retry_after_s(((b"Retry-After", value),)) == span_s


def test_without_retry_after_nothing_is_asked() -> None:
    assert retry_after_s(((b"Date", b"today"),)) is None


@pytest.mark.parametrize(("attempt", "most_s"), [(1, 0.025), (2, 0.05), (3, 0.1), (5, 0.25), (9, 0.25)])
def test_waits_double_with_full_jitter(attempt: int, most_s: float) -> None:
    assert wait_s(attempt, None, 0.0) == 0.0
    assert wait_s(attempt, None, 1.0) == most_s


def test_a_short_retry_after_is_honoured_and_a_long_one_means_no() -> None:
    assert wait_s(1, 2.0, 0.5) == 2.0
    assert wait_s(1, 2.1, 0.5) is None


# ------------------------------------------------------------------ budget
def spend(budget: RetryBudget, now: float = 0.0) -> int:
    """How many retries the budget allows at once."""
    count = 0
    while budget.take(now):
        count += 1
    return count


def test_a_burst_is_allowed_to_begin_with() -> None:
    assert spend(RetryBudget(0.2, 0.0)) == 100


def test_each_call_earns_its_share() -> None:
    budget = RetryBudget(0.2, 0.0)
    spend(budget)
    budget.calls += 50
    assert spend(budget) == 10


def test_each_second_earns_ten() -> None:
    budget = RetryBudget(0.0, 0.0)
    spend(budget)
    assert spend(budget, 2.0) == 20
    assert spend(budget, 2.0) == 0


def test_the_savings_are_bounded() -> None:
    budget = RetryBudget(0.2, 0.0)
    budget.calls += 10**6
    assert spend(budget, 10**6) == 1000


def test_calls_that_fail_all_the_time_are_not_doubled() -> None:
    budget = RetryBudget(0.2, 0.0)
    spend(budget)
    retries = 0
    for _ in range(1000):
        budget.calls += 1
        retries += budget.take(0.0)
    assert retries == 200
