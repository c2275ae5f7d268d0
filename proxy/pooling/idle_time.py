"""How long an idle connection to one backend can be trusted, learned from the backend itself (pure).

Backends close idle connections after times of their own (uvicorn after 5 s) that every pool default exceeds.
A connection taken just when its backend closes it costs the caller an error, so three things are learned:

1. `limit_s`, after which this side closes an idle connection: the smallest of what is configured, what the
   backend announces (``Keep-Alive: timeout=n`` gives n - 1 s), and 0.8 of the 5th percentile of the idle ages
   at which it was seen to close or to send bytes that nobody asked for. Never below half a second.
   Observations are forgotten after ten minutes, because backends are reconfigured too.
2. `is_trusted`. Some backends close, or send a stray 408, right after an answer without announcing it. Until
   used connections have been seen to rest silently for `REST_S` three times, one rest after the other, and
   again after any that did not, connections must rest that long before they are reused; meanwhile calls get
   new ones. Each breach doubles the number of peaceful rests that restore trust. A backend that behaves
   costs a few extra dials once. A rest is made of `LOOKS` looks, `LOOK_S` apart, not of seconds: while the
   machine stands still, no backend can show itself. Rests that overlap are one: a backend that stalls is
   silent on all connections.
3. `is_safe`, for calls that must not be sent twice: never while a breach or a close within half a second is
   remembered, because a machine that stalls for a moment hides as much between an answer and its reading;
   else right after an answer, or at an idle age below 0.8 of what other connections have survived and of
   the earliest close seen. Whoever asks sees to it that the backend is trusted. So that ages are proven
   before they are needed, a look at the connection that rests longest is due at `next_proof_s`, a tenth
   later than what is proven.

Many connections closed at once are either a restart (their idle ages differ) or the backend's timer hitting
connections that became idle together (they agree): `looks_like_restart` tells the two apart, and the ages of
a restart teach nothing.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("LOOKS", "LOOK_S", "REST_S", "IdleTime", "looks_like_restart")

REST_S: Final = 0.02
"""Span after an answer in which a misbehaving backend shows itself, even a busy one."""

LOOKS: Final = 4
LOOK_S: Final = REST_S / LOOKS

_FLOOR_S: Final = 0.5
_MARGIN: Final = 0.8
_MEMORY_S: Final = 600.0
_FIRST_RESTS: Final = 3
_MOST_RESTS: Final = 96
_PROOF_GROWTH: Final = 1.1


class IdleTime:
    """What is known about one backend's patience."""

    __slots__ = (
        "_announced_s",
        "_breached_at",
        "_closings",
        "_configured_s",
        "_is_hasty",
        "_rested_at",
        "_rests",
        "_rests_needed",
        "_safe_s",
        "_survived_s",
        "limit_s",
    )

    def __init__(self, configured_s: float) -> None:
        self._configured_s = configured_s
        self._announced_s: float | None = None
        self._closings: deque[tuple[float, float]] = deque(maxlen=64)
        self._breached_at = -math.inf
        self._is_hasty = False
        self._rests = 0
        self._rested_at = -math.inf
        self._rests_needed = _FIRST_RESTS
        self._survived_s = 0.0
        self._safe_s = configured_s
        self.limit_s = configured_s

    @property
    def is_trusted(self) -> bool:
        """True when a connection may be reused at once after its answer."""
        return self._rests >= self._rests_needed

    @property
    def is_promising(self) -> bool:
        """True when nothing but rests is missing for trust, and there is nothing to be said against it."""
        is_blameless = self._breached_at == -math.inf and not self._is_hasty
        return is_blameless and self._rests_needed == _FIRST_RESTS and not self.is_trusted

    def counts(self, since: float) -> bool:
        """Whether a rest that began at `since` is one after those that were seen, and brings trust nearer."""
        return not self.is_trusted and since > self._rested_at - LOOK_S / 2

    @property
    def next_proof_s(self) -> float:
        """The idle age at which a connection's silence is worth a look; inf: nothing is left to prove."""
        age_s = max(REST_S, _PROOF_GROWTH * self._survived_s)
        return age_s if age_s < self.limit_s else math.inf

    @property
    def learned_s(self) -> float | None:
        """The limit that the backend's behaviour sets, None when only the configuration does."""
        return self.limit_s if self.limit_s < self._configured_s else None

    def is_safe(self, age_s: float) -> bool:
        """Whether a connection idle for `age_s` may carry a call that must not be sent twice."""
        if self._breached_at > -math.inf or self._is_hasty:
            return False
        return age_s < REST_S or (age_s <= self._safe_s and age_s <= _MARGIN * self._survived_s)

    def announced(self, timeout_s: float) -> None:
        """The backend said ``Keep-Alive: timeout=timeout_s``."""
        if timeout_s != self._announced_s:
            self._announced_s = timeout_s
            self._settle()

    def survived(self, now: float, age_s: float) -> None:
        """A connection was still silent after `age_s` of idleness."""
        self._survived_s = max(self._survived_s, age_s)
        if age_s >= REST_S and self.counts(now - age_s):
            self._rests += 1
            self._rested_at = now

    def closed(self, now: float, age_s: float) -> None:
        """The backend ended a connection, by FIN or unasked bytes, after `age_s` of idleness."""
        if age_s < REST_S:
            self._breached_at = now
            if self.is_trusted:
                self._rests_needed = min(_MOST_RESTS, self._rests_needed * 2)
            self._rests = 0
            return
        self._closings.append((now, age_s))
        self._survived_s = min(self._survived_s, age_s)
        self._settle()

    def forget(self, now: float) -> None:
        """Drop what was observed too long ago."""
        if self._breached_at <= now - _MEMORY_S:
            self._breached_at = -math.inf
        while self._closings and self._closings[0][0] <= now - _MEMORY_S:
            self._closings.popleft()
            self._settle()

    def _settle(self) -> None:
        spans = [self._configured_s]
        if self._announced_s is not None:
            spans.append(max(_FLOOR_S, self._announced_s - 1))
        ages = sorted(age for _, age in self._closings)
        if ages:
            spans.append(max(_FLOOR_S, _MARGIN * ages[len(ages) // 20]))
        self._is_hasty = bool(ages) and ages[0] < _FLOOR_S
        self.limit_s = min(spans)
        self._safe_s = min(self.limit_s, _MARGIN * ages[0]) if ages else self.limit_s


def looks_like_restart(ages: Sequence[float], idle_before: int) -> bool:
    """Whether connections closed together, at these idle `ages`, mean that the backend went away.

    `idle_before` is how many were idle before. It does when at least half of them (and three) went and their
    ages differ by more than a timer would explain.
    """
    if len(ages) < max(3, (idle_before + 1) // 2):
        return False
    return max(ages) - min(ages) > max(0.5, 0.2 * max(ages))
