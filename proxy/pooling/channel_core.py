"""The book-keeping of one channel pool: which channel takes a call, when to open or close one. Pure.

A channel carries many calls, so there is no leasing: a call goes to the least loaded open channel, or to one
that has a write booked in this turn of the loop and carries at most `_COMPANY` calls more: calls that come in
one turn leave in few writes, and writes are what a small call costs most. How many
it may take is the lesser of what the peer announced and what is left of stream identifiers; a peer's limit
that is hidden in a client's own queue is how gRPC clients come to stall. Before the peer has announced
anything it takes one call: there are servers that refuse more than they are going to announce. Above
the limit of `limiter`, the adaptive one, calls wait however much room there is.

The pool starts with the first call and then keeps `least` channels. One more is opened, one at a time, as
soon as even the least loaded channel carries `streams` calls, or a call has to wait. A channel older than
`max_age` (give or take a tenth, so that a pool opened at once does not retire at once) takes no new calls and
its place is filled; so does one that the backend is draining. An idle channel beyond `least` is closed after
`idle_s`, the longest idle first.

Bounds: `open + dialing <= most` (retired channels still finishing their calls do not count), and
`len(waiting) <= queue`. Failed dials pause dialing from 50 ms, doubling, to 5 s, unless somebody waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pooling.concurrency import Gradient
    from proxy.pooling.policy import GrpcPoolPolicy
    from proxy.pooling.pool_core import Ticket

__all__ = ("ChannelCore", "Facts", "Gauged")

W = TypeVar("W")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_COMPANY = 16


class Facts(Protocol):
    """What a channel must tell; `born_at` and `idle_since` are instants, `load` and `capacity` calls.

    `is_writing` says that something leaves at the end of this turn of the loop.
    """

    born_at: float
    idle_since: float
    is_writing: bool
    load: int

    @property
    def capacity(self) -> int:
        """Calls that may be added."""


C = TypeVar("C", bound=Facts)


class ChannelCore(Generic[C, W]):
    """See the module's text; `C` is a channel, `W` what a ticket's `claim` is; `random` draws from [0, 1)."""

    __slots__ = (
        "_limiter",
        "_policy",
        "_random",
        "_recent",
        "_recent_most",
        "_retire_at",
        "channels",
        "dialing",
        "draining",
        "is_started",
        "pause_s",
        "paused_until",
        "waiting",
    )

    def __init__(
        self, policy: GrpcPoolPolicy, random: Callable[[], float], limiter: Gradient | None = None
    ) -> None:
        self._policy = policy
        self._limiter = limiter
        self._random = random
        self._recent: C | None = None  # picked last; joined up to a load of `_recent_most`
        self._recent_most = 0
        self._retire_at: dict[C, float] = {}
        self.channels: list[C] = []
        self.draining: set[C] = set()  # take no new calls, and close behind their last one
        self.dialing = 0
        self.waiting: deque[Ticket[W]] = deque()
        self.is_started = False
        self.pause_s = 0.0
        self.paused_until = 0.0

    # ------------------------------------------------------------- channels
    def pick(self) -> C | None:
        """The channel that takes another call: see the module's text."""
        if self._limiter is not None and self.is_at_limit:
            return None
        recent = self._recent
        if (
            recent is not None
            and recent.is_writing
            and recent.load < self._recent_most
            and recent.capacity > 0
        ):
            return recent
        self._recent = best = self._least_loaded()
        if best is not None:
            self._recent_most = best.load + _COMPANY
        return best

    def _least_loaded(self) -> C | None:
        best, least = None, -1
        for channel in self.channels:
            load = channel.load
            if best is None or load < least:
                best, least = channel, load
        if best is None or best.capacity > 0:
            return best
        return min((channel for channel in self.channels if channel.capacity > 0), key=_load, default=None)

    def dials_wanted(self, now: float) -> int:
        """How many dials to start now."""
        policy = self._policy
        total = len(self.channels) + self.dialing
        if not self.is_started or (now < self.paused_until and not self.waiting):
            return 0
        if total < policy.min:
            return policy.min - total
        is_short = (self.waiting and not self.is_at_limit) or all(
            channel.load >= policy.streams for channel in self.channels
        )
        return 1 if is_short and not self.dialing and total < policy.max else 0

    def dialed(self, channel: C, now: float) -> None:
        """A dial succeeded."""
        self.dialing -= 1
        self.pause_s = self.paused_until = 0.0
        self.channels.append(channel)
        share = 0.9 + 0.2 * self._random()
        self._retire_at[channel] = now + share * self._policy.max_age

    def dial_failed(self, now: float) -> Ticket[W] | None:
        """A dial failed: the returned ticket, the oldest, fails with it unless a channel is open."""
        self.dialing -= 1
        self.pause_s = min(max(2 * self.pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self.paused_until = now + self.pause_s
        return self.waiting.popleft() if self.waiting and not self.channels else None

    def drains(self, channel: C) -> None:
        """The channel takes no new calls."""
        self.forget(channel)
        self.draining.add(channel)

    def forget(self, channel: C) -> None:
        """The channel is closed."""
        self.draining.discard(channel)
        if self._retire_at.pop(channel, None) is not None:
            self.channels.remove(channel)
            self._recent = None

    def due_to_retire(self, now: float) -> list[C]:
        """Channels that are too old, or idle for too long and not needed for the minimum; they drain now."""
        due = [channel for channel, retire_at in self._retire_at.items() if retire_at <= now]
        idle = [
            channel
            for channel in self.channels
            if not channel.load and channel.idle_since + self._policy.idle <= now and channel not in due
        ]
        idle.sort(key=_idle_since)
        spare = max(len(self.channels) - len(due) - self._policy.min, 0)
        due += idle[:spare]
        for channel in due:
            self.drains(channel)
        return due

    def next_due(self) -> float | None:
        """The instant at which `due_to_retire` should be asked again; None while there is no channel."""
        due = list(self._retire_at.values())
        if len(self.channels) > self._policy.min:
            due += [channel.idle_since + self._policy.idle for channel in self.channels if not channel.load]
        return min(due, default=None)

    # ------------------------------------------------------------- the concurrency limit
    @property
    def lease_limit(self) -> int:
        """Calls that may be in flight at once, as far as this side is concerned."""
        return self._policy.max * self._policy.streams if self._limiter is None else self._limiter.limit

    @property
    def is_at_limit(self) -> bool:
        """True when as many calls are in flight as the adaptive limit allows."""
        return self._limiter is not None and self.calls >= self._limiter.limit

    def room(self, channel: C) -> int:
        """Calls that wait and may go to `channel` now."""
        room = min(len(self.waiting), channel.capacity)
        return room if self._limiter is None else max(0, min(room, self._limiter.limit - self.calls))

    def sample(self, span_s: float, company: int) -> None:
        """A call took `span_s` seconds; `company` were in flight when it left, itself included."""
        if self._limiter is not None:
            self._limiter.sample(span_s, company)

    # ------------------------------------------------------------- for operators
    @property
    def calls(self) -> int:
        """Calls in flight."""
        return sum(channel.load for channel in (*self.channels, *self.draining))

    @property
    def idle_limit_s(self) -> float:
        """How long an idle channel beyond the minimum is kept."""
        return self._policy.idle

    @property
    def connections(self) -> dict[str, int]:
        """Channels by state."""
        idle = sum(not channel.load for channel in self.channels)
        active = len(self.channels) - idle + len(self.draining)
        return {"active": active, "idle": idle, "connecting": self.dialing}

    def snapshot(self) -> dict[str, object]:
        """The pool's state for the status page."""
        return {
            "channels": len(self.channels),
            "draining": len(self.draining),
            "dialing": self.dialing,
            "calls": self.calls,
            "waiting": len(self.waiting),
            "max": self._policy.max,
        }

    # ------------------------------------------------------------- tickets
    def enqueue(self, ticket: Ticket[W]) -> bool:
        """Queue `ticket`; False when the queue is full."""
        if len(self.waiting) >= self._policy.queue:
            return False
        self.waiting.append(ticket)
        return True

    def withdraw(self, ticket: Ticket[W]) -> None:
        """Its call waits no more; harmless when it was served already."""
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def give_up(self, now: float) -> list[Ticket[W]]:
        """Remove and return the tickets whose time is over."""
        over = [ticket for ticket in self.waiting if ticket.give_up_at <= now]
        for ticket in over:
            self.waiting.remove(ticket)
        return over


class Gauged(Generic[C, W]):
    """What operators, and whoever chooses an endpoint, ask of a pool of channels."""

    def __init__(self, core: ChannelCore[C, W]) -> None:
        self._core = core

    @property
    def load(self) -> int:
        """Calls in flight or waiting for a channel."""
        return self._core.calls + len(self._core.waiting)

    @property
    def waiting(self) -> int:
        """Calls that wait for a channel."""
        return len(self._core.waiting)

    @property
    def lease_limit(self) -> int:
        """Calls that may be in flight at once, as far as this side is concerned."""
        return self._core.lease_limit

    @property
    def idle_limit_s(self) -> float:
        """How long an idle channel beyond the minimum is kept."""
        return self._core.idle_limit_s

    @property
    def connections(self) -> dict[str, int]:
        """Channels by state."""
        return self._core.connections

    def snapshot(self) -> dict[str, object]:
        """The pool's state for the status page."""
        return self._core.snapshot()


def _load(channel: Facts) -> int:
    return channel.load


def _idle_since(channel: Facts) -> float:
    return channel.idle_since
