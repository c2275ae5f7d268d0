"""Whether a failed call is sent again, and when (pure).

A call may be sent again when that cannot execute it twice, or when executing it twice does no harm:

* nothing reached the backend (`ConnectFailed`, `ConnectTimeout`), or it says that it has not looked at it
  (`StreamRefused`): always;
* the connection broke before a byte of the answer (`Reset`): only an idempotent call;
* the backend answered 502, 503 or 504 (UNAVAILABLE): only an idempotent call, and the answer is dropped.

Never when the answer has begun, never for a time-out (the work is probably still going on), never when the
body was a stream of which something was sent. What a reused connection that proved dead was to carry is
sent again by the pool itself, once for each call, and does not count here: that is one execution more than
there are attempts, at the most.

The budget keeps retries from multiplying an overload. Each call earns `share` of a retry, and each second
ten, up to a thousand: a backend that dies takes all the calls with it that it was working on, and they may
all be saved, but calls that fail all the time are not sent twice. What was never sent multiplies nothing and
is not counted. Retries to the same endpoint wait for 25 ms, doubling to 250 ms, with full jitter; a
`Retry-After` (push-back) of up to two seconds is waited for instead, a longer one means no.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.errors import ConnectFailed, ConnectTimeout, Reset, StreamRefused
from proxy.exchange import field
from proxy.pooling.backoff import backoff_s

if TYPE_CHECKING:
    from proxy.errors import UpstreamError
    from proxy.exchange import Call, Headers
    from proxy.pooling.policy import RetryPolicy

__all__ = (
    "RetryBudget",
    "is_idempotent",
    "is_retryable_error",
    "is_retryable_status",
    "retry_after_s",
    "wait_s",
)

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))  # RFC 9110 §9.2.2
_UNAVAILABLE: Final = frozenset((502, 503, 504))
_ALWAYS_PER_S: Final = 10.0
_RESERVE: Final = 100.0
_MOST_TOKENS: Final = 1000.0
_BASE_S: Final = 0.025
_MOST_S: Final = 0.25
_MOST_RETRY_AFTER_S: Final = 2.0


def is_idempotent(call: Call, policy: RetryPolicy) -> bool:
    """Whether `call` may be executed twice and can be: its body is at hand."""
    if policy.idempotent == "never" or not isinstance(call.body, bytes) or call.upgrade:
        return False
    return call.idempotent or policy.idempotent == "always" or call.method in _IDEMPOTENT


def is_retryable_error(error: UpstreamError, call: Call, policy: RetryPolicy) -> bool:
    """Whether `call` may be sent again after `error`."""
    if isinstance(error, (ConnectFailed, ConnectTimeout, StreamRefused)):
        return True
    return isinstance(error, Reset) and is_idempotent(call, policy)


def is_retryable_status(status: int, call: Call, policy: RetryPolicy) -> bool:
    """Whether `call` may be sent again although the backend answered with `status`."""
    return status in _UNAVAILABLE and is_idempotent(call, policy)


def retry_after_s(headers: Headers) -> float | None:
    """The span that ``Retry-After`` or gRPC's push-back asks for; inf for a date and for never, None without
    either."""
    pushback = field(headers, b"grpc-retry-pushback-ms")
    if pushback is not None:
        return int(pushback) / 1e3 if pushback.isdigit() else math.inf
    value = field(headers, b"retry-after")
    if value is None:
        return None
    return float(value) if value.strip().isdigit() else math.inf


def wait_s(attempt: int, asked_s: float | None, jitter: float) -> float | None:
    """The span before try number `attempt` + 1 at the same endpoint, or None when it is not worth waiting.

    `asked_s` is what `retry_after_s` said; `jitter` is in [0, 1).
    """
    if asked_s is not None:
        return asked_s if asked_s <= _MOST_RETRY_AFTER_S else None
    return backoff_s(attempt, _BASE_S, _MOST_S) * jitter


class RetryBudget:
    """How many calls may be sent again after a backend may have worked on them. Count every call in
    `calls`."""

    __slots__ = ("_filled_at", "_seen", "_share", "_tokens", "calls")

    def __init__(self, share: float, now: float) -> None:
        self._share = share
        self._tokens = _RESERVE
        self._filled_at = now
        self._seen = 0
        self.calls = 0

    def take(self, now: float) -> bool:
        """Begin a retry; False when the budget is spent."""
        earned = self._share * (self.calls - self._seen) + _ALWAYS_PER_S * (now - self._filled_at)
        self._tokens = min(_MOST_TOKENS, self._tokens + earned)
        self._seen = self.calls
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
