"""What one caller may ask for, where callers show keys (pure).

Theory of operation
-------------------
One caller's loop without a pause must not take every place from the others. Each key has its own bucket of
tokens, filled at `rate` a second and holding one second's worth, and its own count of calls in flight. A call
beyond either is refused with 429, and told when a token will be there. Callers without a key are not told
apart, so nothing is counted for them; and as only accepted keys get this far, the table is as small as the
list of keys.
"""

from __future__ import annotations

from proxy.errors import OverQuota

__all__ = ("Quotas",)

_RETRY_AFTER_S = 1.0


class _Account:
    """One key's tokens and calls in flight."""

    __slots__ = ("filled_at", "in_flight", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.filled_at = now
        self.in_flight = 0


class Quotas:
    """Counts each identity's calls; `enter` and `leave` come in pairs.

    `rate` is calls per second, `inflight` calls at once, each for one key; 0: without bound.
    """

    __slots__ = ("_accounts", "_burst", "_inflight", "_rate")

    def __init__(self, rate: float, inflight: int) -> None:
        self._rate = rate
        self._burst = max(1.0, rate)
        self._inflight = inflight
        self._accounts: dict[bytes, _Account] = {}

    def enter(self, identity: bytes, now: float) -> None:
        """Count a call of `identity` that comes at the instant `now`; raises `OverQuota`."""
        if not identity:
            return
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = _Account(self._burst, now)
        if self._inflight and account.in_flight >= self._inflight:
            why = f"{self._inflight} calls with this key are in flight already"
            raise OverQuota(why, retry_after_s=_RETRY_AFTER_S)
        if self._rate:
            self._spend(account, now)
        account.in_flight += 1

    def leave(self, identity: bytes) -> None:
        """A call of `identity` that entered is over."""
        if identity:
            self._accounts[identity].in_flight -= 1

    def retract(self, identity: bytes) -> None:
        """A call that entered is to enter once more: this time does not count."""
        if identity:
            account = self._accounts[identity]
            account.in_flight -= 1
            account.tokens = min(self._burst, account.tokens + 1)

    def _spend(self, account: _Account, now: float) -> None:
        earned = max(0.0, now - account.filled_at) * self._rate
        account.tokens = min(self._burst, account.tokens + earned)
        account.filled_at = now
        if account.tokens < 1:
            why = f"more than {self._rate:g} calls per second with this key"
            raise OverQuota(why, retry_after_s=(1 - account.tokens) / self._rate)
        account.tokens -= 1
