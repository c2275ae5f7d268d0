from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.pooling.policy import ConcurrencyPolicy, UpstreamPolicy


def test_the_defaults_are_the_documented_ones() -> None:
    policy = UpstreamPolicy()
    pool = policy.pool.http
    assert (pool.min, pool.max, pool.idle, pool.max_age, pool.max_requests) == (10, 100, 30.0, 600.0, 0)
    assert (pool.connect, pool.wait, pool.queue) == (1.0, 3.0, 1024)
    health = policy.health
    assert (health.every, health.timeout, health.fall, health.rise, health.path) == (30.0, 2.0, 3, 1, "auto")
    assert (policy.eject.consecutive, policy.eject.base, policy.eject.max) == (5, 5.0, 60.0)
    assert (policy.retry.attempts, policy.retry.budget, policy.retry.idempotent) == (2, 0.2, "auto")
    assert (policy.timeouts.first_byte, policy.timeouts.idle) == (60.0, 300.0)


def test_the_concurrency_bounds_must_fit() -> None:
    with pytest.raises(ValidationError, match="least is above most"):
        ConcurrencyPolicy(least=9, most=8)
