"""When a gRPC answer wants to be asked again, and what was never looked at."""

from __future__ import annotations

import math

import pytest

from proxy.errors import StreamRefused
from proxy.exchange import Call
from proxy.pooling.policy import RetryPolicy
from proxy.pooling.retry import is_retryable_error, retry_after_s


@pytest.mark.parametrize(("value", "span_s"), [(b"250", 0.25), (b"-1", math.inf), (b"soon", math.inf)])
def test_push_back_is_a_span_or_never(value: bytes, span_s: float) -> None:
    assert retry_after_s(((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", value))) == span_s


def test_a_call_that_was_refused_unread_may_be_sent_again_whatever_it_is() -> None:
    assert is_retryable_error(StreamRefused(), Call(b"POST", b"/", ()), RetryPolicy(idempotent="never"))
