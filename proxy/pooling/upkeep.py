"""What a pool does when nobody is looking: age out, shrink, keep warm, learn (pure).

The shell says what happened to connections (`dialed`, `rests`, `ended`) and asks once in a while (`next_at`)
which `chores` are due: connections to close and why, and how many spare ones to dial. It decides by

* the idle limit (`idle_time`), one for used connections and one for those on which nothing was ever sent,
  because some servers close the latter early (nginx after 60 s) and others only the former;
* age and number of requests, both to follow load balancers and DNS; ages are spread by 10 % either way;
* the sizing rule (`sizing`), once a second while there is traffic;
* spare connections, one every 10 to 50 ms, so that a restarted backend is not met by a volley of handshakes.

Found silent, an idle connection proves that its backend keeps connections as long as that, but only `REST_S`
later, if it is idle still: a backend that stood still together with this machine must have had its turn.
While `is_proving`, calls that need a backend's trust do better to wait than to have connections closed that
rest: three rests at most lie between them and the use of all of these.

Closings by the backend are collected for a tenth of a second and then judged together. If they look like a
restart, every connection is of the past: idle ones are closed, leased ones not reused, and no spare is dialed
until the endpoint is known to be healthy again (`keep_warm`). Otherwise their ages teach the idle limit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, TypeVar

from proxy.pooling.idle_time import LOOK_S, LOOKS, REST_S, IdleTime, looks_like_restart
from proxy.pooling.sizing import Sizing

if TYPE_CHECKING:
    from proxy.pooling.policy import HttpPoolPolicy
    from proxy.pooling.pool_core import PoolCore

__all__ = ("TICK_S", "Aged", "Chores", "Retired", "Upkeep")

Retired = Literal["idle", "age", "requests", "surplus", "room", "restart", "moved"]
"""Why this side gave a connection up although it worked: unused for too long, too old, used too often, more
than wanted, to make room for a fresh one, the backend restarted, or its name stands for other addresses
now."""

_JUDGE_AFTER_S: Final = 0.1
TICK_S: Final = 1.0
_WARM_LEAST_S: Final = 0.01
_WARM_SPREAD_S: Final = 0.04
_AGE_SPREAD: Final = 0.1


class Aged:
    """What the upkeep knows of a connection: it may rest until `fit_until`, and live until `retire_at`.

    `idle_since` is when it last had nothing to do, `looks` how often it was seen so since, `uses` how many
    calls it has carried.
    """

    __slots__ = ("fit_until", "idle_since", "looks", "retire_at", "uses")

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.looks = 0
        self.fit_until = 0.0
        self.retire_at = math.inf
        self.uses = 0

    @property
    def held_up_since(self) -> float:
        """Since when its client has neither taken nor sent what it should; inf when it keeps up."""
        return math.inf


C = TypeVar("C", bound=Aged)
W = TypeVar("W")


class Chores(NamedTuple, Generic[C]):
    """What to do now: connections to close, spare ones to dial."""

    close: list[tuple[C, Retired]]
    dials: int


class Sighting(NamedTuple, Generic[C]):
    """A look at a connection, idle since `idle_since`, that found it silent at `at`."""

    connection: C
    idle_since: float
    at: float


class Upkeep(Generic[C, W]):
    """See the module's text."""

    __slots__ = (
        "_calls",
        "_closings",
        "_idle_before",
        "_is_warm",
        "_judge_at",
        "_least",
        "_looked_at",
        "_max_age_s",
        "_max_uses",
        "_next_warm_at",
        "_rate",
        "_sighting",
        "_sizing",
        "_ticked_at",
        "_unused",
        "_used",
        "core",
    )

    def __init__(self, policy: HttpPoolPolicy, core: PoolCore[C, W], now: float) -> None:
        self.core = core
        self._max_age_s = policy.max_age or math.inf
        self._max_uses = policy.max_requests or math.inf
        self._least = policy.min
        self._sizing = Sizing(policy.min, policy.max)
        self._used = IdleTime(policy.idle)
        self._unused = IdleTime(policy.idle)
        self._closings: list[tuple[float, int]] = []
        self._idle_before = 0
        self._judge_at = math.inf
        self._looked_at = -math.inf
        self._sighting: Sighting[C] | None = None
        self._ticked_at = now
        self._calls = 0
        self._rate = 0.0
        self._is_warm = False
        self._next_warm_at = now
        core.must_rest = True

    # ------------------------------------------------------------- what happened
    def dialed(self, connection: C, now: float, jitter: float) -> None:
        """A connection is new; `jitter` in [0, 1) spreads its end."""
        connection.retire_at = now + self._max_age_s * (1 - _AGE_SPREAD + 2 * _AGE_SPREAD * jitter)
        self.rests(connection, now)

    def rests(self, connection: C, now: float) -> None:
        """A connection has nothing to do from `now`: until when may it be used?"""
        connection.idle_since = now
        connection.looks = 0
        self._calls += 1
        connection.fit_until = now + (self._used if connection.uses else self._unused).limit_s

    def announced(self, timeout_s: float) -> None:
        """The backend says how long it keeps idle connections."""
        self._used.announced(timeout_s)

    def ended(self, connection: C, now: float) -> bool:
        """The backend ended a connection that was idle. True when so many went that it should be probed."""
        age_s = now - connection.idle_since
        if connection.uses and age_s < REST_S:
            self._used.closed(now, age_s)
            self.core.must_rest = True
            return False
        if not self._closings:
            self._idle_before = len(self.core.idle) + 1
            self._judge_at = now + _JUDGE_AFTER_S
        self._closings.append((age_s, connection.uses))
        return len(self._closings) * 2 >= self._idle_before

    def restarted(self) -> list[C]:
        """The backend went away: the idle connections to close; the leased ones end with their exchange."""
        self._is_warm = False
        for connection in self.core.leased:
            connection.retire_at = -math.inf
        return list(self.core.idle)

    def keep_warm(self) -> None:
        """The endpoint is healthy: spare connections are worth having."""
        self._is_warm = True

    # ------------------------------------------------------------- what is allowed
    def is_spent(self, connection: C, now: float) -> Retired | None:
        """Why a connection must not be used again, if so."""
        if connection.uses >= self._max_uses:
            return "requests"
        if now >= connection.retire_at:
            return "age" if connection.retire_at > -math.inf else "restart"
        return None

    def is_over(self, connection: C, now: float) -> Retired | None:
        """Why an idle connection must be closed, if so."""
        if now >= connection.fit_until:
            return "idle"
        return "age" if now >= connection.retire_at else None

    def is_safe(self, connection: C, now: float) -> bool:
        """Whether a call that must not be sent twice may take this idle, silent connection."""
        if self._closings:  # their ages have taught nothing yet
            return False
        age_s = now - connection.idle_since
        if connection.uses:
            return self._used.is_trusted and self._used.is_safe(age_s)
        return self._unused.is_safe(age_s)

    @property
    def is_proving(self) -> bool:
        """Whether a rest under way brings trust nearer, in `LOOKS` looks."""
        used = self._used
        return used.is_promising and any(
            one.uses and one.looks < LOOKS and used.counts(one.idle_since) for one in self.core.idle
        )

    def sighted(self, connection: C, now: float) -> None:
        """An idle connection was found silent, which may prove something `REST_S` later."""
        if self._sighting is None:
            self._sighting = Sighting(connection, connection.idle_since, now)

    def survived(self, connection: C, now: float) -> None:
        """An idle connection was silent until `now`."""
        age_s = now - connection.idle_since
        if connection.looks >= LOOKS or connection.idle_since + REST_S <= now:
            age_s = max(age_s, REST_S)  # the difference may fall short by a rounding
        (self._used if connection.uses else self._unused).survived(now, age_s)
        self.core.must_rest = not self._used.is_trusted

    # ------------------------------------------------------------- what is due
    def chores(self, now: float, jitter: float) -> Chores[C]:
        """What to do at `now`; `jitter` in [0, 1)."""
        close: list[tuple[C, Retired]] = []
        self._look(now)
        if now >= self._judge_at:
            close += [(connection, "restart") for connection in self._judge(now)]
        close += [
            (connection, why)
            for connection in self.core.idle
            if (why := self.is_over(connection, now)) is not None
        ]
        if now >= self._ticked_at + TICK_S:
            close += [(connection, "surplus") for connection in self._tick(now)]
        return Chores(close, self._spares(now, jitter))

    def next_at(self, now: float) -> float:
        """The next instant at which chores may be due; inf: not before something happens."""
        core = self.core
        instants = [self._judge_at]
        instants += [min(connection.fit_until, connection.retire_at) for connection in core.idle]
        if self._calls or core.leased or len(core.idle) > self._least:
            instants.append(self._ticked_at + TICK_S)
        if core.must_rest:
            resting = [one.idle_since for one in core.idle if one.uses and one.looks < LOOKS]
            instants += [max(self._looked_at, min(resting)) + LOOK_S] if resting else []
        if self._sighting is not None:
            instants.append(self._sighting.at + REST_S)
        elif (coldest := self._coldest) is not None:
            instants.append(coldest.idle_since + self._used.next_proof_s)
        if self._is_warm and core.spares_wanted(math.inf, self._spare):
            instants.append(max(now, self._next_warm_at, core.dial_at))
        return min(instants)

    @property
    def idle_limit_s(self) -> float:
        """How long a used connection may rest."""
        return self._used.limit_s

    def snapshot(self) -> dict[str, object]:
        """What was learned and decided, for the status page."""
        return {
            "target": self._sizing.target,
            "spare": self._spare if self._is_warm else 0,
            "idle_limit_s": self._used.limit_s,
            "learned_idle_s": self._used.learned_s,
            "is_trusted": self._used.is_trusted,
        }

    @property
    def _spare(self) -> int:
        return self._sizing.spare(self._used.limit_s, self._rate)

    @property
    def _coldest(self) -> C | None:
        """The used connection that rests longest, of a backend that need not prove more than how long."""
        if self.core.must_rest:
            return None
        return next((connection for connection in self.core.idle if connection.uses), None)

    def _spares(self, now: float, jitter: float) -> int:
        if not self._is_warm or now < self._next_warm_at:
            return 0
        wanted = min(1, self.core.spares_wanted(now, self._spare))
        if wanted:
            self._next_warm_at = now + _WARM_LEAST_S + _WARM_SPREAD_S * jitter
        return wanted

    def _look(self, now: float) -> None:
        if self.core.must_rest and now >= self._looked_at + LOOK_S:
            self._looked_at = now
            for connection in self.core.idle:
                if connection.idle_since + LOOK_S <= now:
                    connection.looks += 1
                    if connection.uses and connection.looks == LOOKS:
                        self.survived(connection, now)
        sighting = self._sighting
        if sighting is not None and now >= sighting.at + REST_S:
            self._sighting = None
            connection = sighting.connection
            if connection.idle_since == sighting.idle_since and connection in self.core.idle:
                self.survived(connection, sighting.at)
        coldest = self._coldest
        if coldest is not None and now >= coldest.idle_since + self._used.next_proof_s:
            self.sighted(coldest, now)

    def _tick(self, now: float) -> list[C]:
        idle = self.core.idle
        untouched = sum(1 for connection in idle if connection.idle_since <= self._ticked_at)
        self._sizing.tick(now, self.core.total - untouched)
        self._rate = self._calls / (now - self._ticked_at)
        self._calls = 0
        self._ticked_at = now
        for time in (self._used, self._unused):
            time.forget(now)
        return idle[: self._sizing.surplus(now, len(idle), len(self.core.leased))]

    def _judge(self, now: float) -> list[C]:
        closings, self._closings = self._closings, []
        self._judge_at = math.inf
        if looks_like_restart([age for age, _ in closings], self._idle_before):
            return self.restarted()
        for age_s, uses in closings:
            (self._used if uses else self._unused).closed(now, age_s)
        return []
