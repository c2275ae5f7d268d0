"""What nobody could do better: the latency of a scheduler that knows the server, on one that is arithmetic.

A server that does one thing at a time and needs a + b·n seconds for n items is busy without a pause once
calls come faster than it can take them singly. Whoever arrives waits for the batch in hand, and then for
their own. No order of sending shortens that: smaller batches cost more time for each call, larger ones would
have to be waited for. So the bound is what the real lanes reach in the simulation of the tests when they are
told that the server does one thing at a time, and when nothing jitters and no wire or proxy takes time.

a and b are measured on the server itself, asked directly, in the same run.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.batching.policy import BatchPolicy
from tests.support.simulation import Backend, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Costs", "best_p50_ms", "fitted")

SIMULATED = 10_000
"""Calls; the first half, in which the lanes still learn, is left out."""


@dataclass(frozen=True, slots=True)
class Costs:
    """A server's time for a batch: milliseconds for the call, and for each item of it."""

    call_ms: float
    item_ms: float


def fitted(took_ms: Mapping[int, float]) -> Costs:
    """The line through the times of batches by their number of items; at least two numbers."""
    slope, intercept = statistics.linear_regression(list(took_ms), list(took_ms.values()))
    return Costs(max(intercept, 0.0), max(slope, 0.0))


def best_p50_ms(costs: Costs, rate: float) -> float:
    """The p50 of calls that come by chance, `rate` a second, in milliseconds."""
    backend = Backend(1, costs.call_ms / 1e3, costs.item_ms / 1e3, jitter=0.0, network_s=0.0)
    span_s = SIMULATED / rate
    return 1e3 * simulate(BatchPolicy(inflight=1), backend, rate, span_s).quantile(0.50, span_s / 2)
