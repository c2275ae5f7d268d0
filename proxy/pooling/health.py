"""What active probes say about one endpoint, and when to probe it next (pure).

An endpoint is `starting` until its first success (a single one: nothing is known against it), then `up`;
until a probe has failed, calls may try it. The first failed probe makes it `failing`, which still takes
calls; `fall` failures in a row make it `down`, and from there `rise` successes in a row bring it back. While
it is not plainly up it is probed fast: after 50 ms, doubling to 1 s, so that a restarted backend is found
within a second of being ready instead of after `every`. Probes of a healthy endpoint are spread by 10 %
either way, so that many proxies do not ask in step.

A starting or fallen endpoint also gets less time to answer (100 ms, doubling to `timeout`): a port that
swallows packets must not slow the search down. A failing one gets all of `timeout`, because busy is not
dead; a starting one that had less than that and ran out of it (`is_hasty`) may be busy too, and does not
fall by it.

Whoever sees other evidence of trouble (a refused dial, many connections closed at once) says `suspect`, and
the next probe is due at once. Whoever has just had an answer by another way (a model was loaded) says
`vouch`: what was down is `failing`, and takes calls, until the next probe has told.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from proxy.pooling.policy import HealthPolicy

__all__ = ("Health", "HealthState", "is_healthy_status", "probe_path")

HealthState = Literal["starting", "up", "failing", "down"]

_FAST_S: Final = 0.05
_FAST_MOST_S: Final = 1.0
_FAST_TIMEOUT_S: Final = 0.1
_SPREAD: Final = 0.1

_PATHS: Final = {
    "kserve-v1": "/v2/health/ready",
    "open-inference": "/v2/health/ready",
    "tf-serving": "/v1/models",
    "torchserve": "/ping",
    "openai": "/health",
    "tei": "/health",
    "mlflow": "/health",
    "ollama": "/",
}
_SPEAKS: Final = frozenset((401, 403, 404, 405, 501))


def probe_path(path: str, protocol: str) -> str:
    """The path to GET for the policy's `path` and the upstream's `protocol`; empty: only connect."""
    if protocol == "l4":
        return ""
    if path == "auto":
        return _PATHS.get(protocol, "")
    return "" if path == "tcp" else path


def is_healthy_status(status: int, path: str) -> bool:
    """Whether a probe answered with `status` succeeded, `path` being the policy's.

    Where the path is a guess (`auto`), a server that does not know it, or wants to know who asks, is up.
    """
    return 200 <= status < 400 or (path == "auto" and status in _SPEAKS)


class Health:
    """One endpoint's active health. `next_probe_at` and `timeout_s` describe the next probe."""

    __slots__ = ("_failures", "_probed_at", "_successes", "next_probe_at", "policy", "state")

    def __init__(self, policy: HealthPolicy, now: float) -> None:
        self.policy = policy
        self._failures = 0
        self._successes = 0
        self._probed_at = -math.inf
        self.state: HealthState = "starting" if policy.every else "up"
        self.next_probe_at = now

    @property
    def is_usable(self) -> bool:
        """True while calls should be sent without reserve."""
        return self.state in {"up", "failing"} or (self.state == "starting" and not self._failures)

    @property
    def timeout_s(self) -> float:
        """Span that the next probe may take."""
        if self.state in {"up", "failing"}:
            return self.policy.timeout
        return float(min(self.policy.timeout, _FAST_TIMEOUT_S * 2 ** min(self._failures, 16)))

    @property
    def is_hasty(self) -> bool:
        """True when the next probe has so little time that running out of it tells nothing."""
        return self.state == "starting" and self.timeout_s < self.policy.timeout

    def suspect(self, now: float) -> None:
        """Something else looks wrong: probe at once, unless that was just done."""
        self.next_probe_at = min(self.next_probe_at, max(now, self._probed_at + _FAST_S))

    def vouch(self) -> None:
        """Somebody else has just had an answer: take calls, until the next probe tells."""
        if not self.is_usable:
            self.state = "failing"

    def probed(self, now: float, *, is_healthy: bool, jitter: float, ran_out: bool = False) -> None:
        """Take a probe's outcome, with a `jitter` in [0, 1); `ran_out` says that its time did."""
        self._probed_at = now
        if is_healthy:
            self._succeeded()
        else:
            self._failed(may_fall=not (ran_out and self.is_hasty))
        self.next_probe_at = now + self._interval_s(jitter)

    def _succeeded(self) -> None:
        self._failures = 0
        self._successes += 1
        if self.state != "down" or self._successes >= self.policy.rise:
            self.state = "up"

    def _failed(self, *, may_fall: bool) -> None:
        self._successes = 0
        self._failures += 1
        if self.state == "up":
            self.state = "failing"
        if may_fall and self._failures >= self.policy.fall:
            self.state = "down"

    def _interval_s(self, jitter: float) -> float:
        if self.state == "up":
            return self.policy.every * (1 - _SPREAD + 2 * _SPREAD * jitter)
        return float(min(_FAST_MOST_S, _FAST_S * 2 ** min(max(self._failures - 1, 0), 16)))
