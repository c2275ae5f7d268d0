"""Whose turn it is: deficit round robin between tenants, and between the lanes of each.

Theory of operation
-------------------
A backend that is asked for more than it can do must be shared. Taking turns by batch would give a caller
with large batches a multiple of one with small ones, so turns are paid for in items: whoever is served pays
what it took, and may be served again only when its credit is positive; each round adds a quantum. A batch
may cost more than the credit (the debt is paid off in later rounds), so that batches need not shrink for
the accounts.

Tenants share first, then the lanes of a tenant: opening many lanes gains nothing. A tenant or lane that has
nothing ready leaves the rounds and starts again without debt, since what it took kept nobody waiting then.

Lanes of a more urgent class go first, but waiting counts: for each `AGE_S` that a lane's oldest ticket has
waited, its lane moves up a class. Nobody waits forever, and the delay is bounded by the number of classes.

Moving a lane to another class leaves its old entry behind; an entry counts only if the lane is still listed
in its class. All operations are O(1) amortised: each step of a round hands out credit that somebody then
uses up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ("AGE_S", "FairQueue", "Sharer")

AGE_S = 1.0
_Account = TypeVar("_Account", "_Tenant", "Sharer")
_QUANTUM = 32  # items; a few rounds pay off the largest batch


class Sharer(Protocol):
    """A lane as the rounds see it."""

    tenant: Hashable
    credit: float
    urgency: int
    """The class of its most urgent ticket: smaller goes first."""
    listed_as: int | None
    """The class in which it waits for its turn, if it does; kept by the queue."""

    def waiting_since(self) -> float:
        """When its oldest ticket arrived."""


class _Tenant:
    __slots__ = ("credit", "key", "lanes")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.credit = 0.0
        self.lanes: deque[Sharer] = deque()


class _Rounds:
    """The tenants of one class."""

    __slots__ = ("_by_key", "_order", "_urgency")

    def __init__(self, urgency: int) -> None:
        self._urgency = urgency
        self._order: deque[_Tenant] = deque()
        self._by_key: dict[Hashable, _Tenant] = {}

    def add(self, lane: Sharer) -> None:
        tenant = self._by_key.get(lane.tenant)
        if tenant is None:
            tenant = self._by_key[lane.tenant] = _Tenant(lane.tenant)
            self._order.append(tenant)
        tenant.lanes.append(lane)

    def head(self) -> Sharer | None:
        """The lane whose turn it is; None when none is left."""
        while self._order:
            tenant = _turn(self._order)
            lanes = tenant.lanes
            while lanes and lanes[0].listed_as != self._urgency:
                lanes.popleft()
            if lanes:
                return _turn(lanes)
            self._order.popleft()
            del self._by_key[tenant.key]
        return None

    def take(self) -> None:
        """Take the head out of the rounds; the next tenant is next."""
        self._order[0].lanes.popleft()
        self._order.rotate(-1)

    def charge(self, tenant: Hashable, items: int) -> None:
        known = self._by_key.get(tenant)
        if known is not None:
            known.credit = max(known.credit - items, -items)


class FairQueue:
    """The lanes that may send, in the order in which they should."""

    __slots__ = ("_classes",)

    def __init__(self) -> None:
        self._classes: dict[int, _Rounds] = {}

    def add(self, lane: Sharer) -> None:
        """List `lane` in its class, or move it up to it."""
        if lane.listed_as is not None and lane.listed_as <= lane.urgency:
            return
        lane.listed_as = lane.urgency
        rounds = self._classes.get(lane.urgency)
        if rounds is None:
            rounds = self._classes[lane.urgency] = _Rounds(lane.urgency)
        rounds.add(lane)

    def pop(self, now: float) -> Sharer | None:
        """Take the lane whose turn it is out of the queue; None when it is empty."""
        best, best_rounds, best_rank = None, None, 0.0
        for urgency, rounds in tuple(self._classes.items()):
            lane = rounds.head()
            if lane is None:
                del self._classes[urgency]
                continue
            rank = urgency - (now - lane.waiting_since()) // AGE_S if len(self._classes) > 1 else 0.0
            if best is None or rank < best_rank:
                best, best_rounds, best_rank = lane, rounds, rank
        if best is not None and best_rounds is not None:
            best_rounds.take()
            best.listed_as = None
        return best

    def charge(self, lane: Sharer, items: int) -> None:
        """`lane` was served `items`; whoever has nothing more to send keeps no debt."""
        if lane.listed_as is not None:
            lane.credit = max(lane.credit - items, -items)
        for rounds in self._classes.values():
            rounds.charge(lane.tenant, items)


def _turn(order: deque[_Account]) -> _Account:
    """The first in `order` with credit; those passed over get theirs and go to the back."""
    while len(order) > 1 and order[0].credit <= 0:
        order[0].credit += _QUANTUM
        order.rotate(-1)
    return order[0]
