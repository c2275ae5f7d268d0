"""Taking an endpoint out of use because calls to it fail, and trying it again: a circuit breaker (pure).

`consecutive` failures in a row open the circuit for `base` seconds, doubled with each ejection that follows
without `_FORGIVEN_S` of good conduct between, up to `max`, and spread over the upper half of that span so
that many proxies do not return in step. When the span is over the circuit is half open: exactly one call is
let through as a trial. Its success reinstates the endpoint, its failure ejects it again. What counts as a
failure is for the caller to say (`is_failure_status`): an answer below 500 never does.

Failures of calls that were under way when the endpoint was ejected change nothing: they are old news.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.pooling.backoff import backoff_s

if TYPE_CHECKING:
    from proxy.pooling.policy import EjectPolicy

__all__ = ("Ejection", "is_failure_status")

_FORGIVEN_S: Final = 60.0
_GATEWAY: Final = frozenset((500, 502, 503, 504))


def is_failure_status(status: int, *, has_alternative: bool) -> bool:
    """Whether an answer with `status` counts against the endpoint.

    Only where another endpoint could do better: many model servers answer 500 to a bad input and 503 for one
    model that is not loaded, and neither is a reason to keep the other callers from the only backend there
    is.
    """
    return has_alternative and status in _GATEWAY


class Ejection:
    """One endpoint's circuit; `until` is -inf while it is closed."""

    __slots__ = ("_ejections", "_policy", "_reinstated_at", "failures", "is_on_trial", "until")

    def __init__(self, policy: EjectPolicy) -> None:
        self._policy = policy
        self._ejections = 0
        self._reinstated_at = -math.inf
        self.failures = 0
        self.until = -math.inf
        self.is_on_trial = False

    @property
    def is_ejected(self) -> bool:
        """True while the endpoint gets no calls but trials."""
        return self.until > -math.inf

    def is_trial_due(self, now: float) -> bool:
        """True when the next call should be the trial."""
        return self.is_ejected and now >= self.until and not self.is_on_trial

    def reset(self) -> None:
        """Something else showed that the endpoint is well: forget everything."""
        self._ejections = 0
        self.failures = 0
        self.until = -math.inf

    def failed(self, now: float, jitter: float, *, on_trial: bool = False) -> bool:
        """A call failed; `jitter` in [0, 1). True when that ejects the endpoint now."""
        if self.is_ejected and not on_trial:
            return False
        self.failures += 1
        if not on_trial and not 0 < self._policy.consecutive <= self.failures:
            return False
        if not self.is_ejected and now - self._reinstated_at >= _FORGIVEN_S:
            self._ejections = 0
        self._ejections += 1
        span_s = backoff_s(self._ejections, self._policy.base, self._policy.max)
        self.until = now + span_s * (0.5 + 0.5 * jitter)
        return True

    def succeeded(self, now: float, *, on_trial: bool = False) -> bool:
        """A call succeeded. True when that reinstates the endpoint now."""
        if self.is_ejected and not on_trial:
            return False
        self.failures = 0
        if not self.is_ejected:
            return False
        self.until = -math.inf
        self._reinstated_at = now
        return True
