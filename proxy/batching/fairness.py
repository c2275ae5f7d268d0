"""Whose turn it is: deficit round robin between tenants, and between the lanes of each.

Theory of operation
-------------------
A backend that is asked for more than it can do must be shared. Taking turns by batch would give a caller
with large batches a multiple of one with small ones, so turns are paid for in items: those who have credit
take turns and pay what they took; when nobody has credit left a new round starts, and everybody gets a
quantum. A batch may cost more than the credit (the debt is paid off in later rounds), so that batches need
not shrink for the accounts.

Tenants share first, then the lanes of a tenant: opening many lanes gains nothing. A tenant or lane that has
nothing ready leaves the rounds and starts again without debt, since what it took kept nobody waiting then;
for the same reason one that is alone in the rounds has no debts.

Among the lanes of a tenant those of a more urgent class go first, but waiting counts: for each `AGE_S` that
a lane's oldest ticket has waited, its lane moves up a class. Nobody waits forever, and the delay is bounded
by the number of classes. Urgency is what callers say of themselves, so it never reaches beyond their own
tenant.

Moving a lane to another class leaves its old entry behind; an entry counts only if the lane is still listed
in its class. All operations are O(1) amortised: a round hands out credit that is then used up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

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


class _Ring(Generic[_Account]):
    """Accounts in rounds: those with credit take turns, the others wait until nobody has any."""

    __slots__ = ("_solvent", "_spent")

    def __init__(self) -> None:
        self._solvent: deque[_Account] = deque()
        self._spent: deque[_Account] = deque()

    def add(self, account: _Account) -> None:
        if account.credit == 0:
            account.credit = _QUANTUM  # a newcomer shares in the round that is under way
        self._solvent.append(account)

    def head(self) -> _Account | None:
        """Whose turn it is; None when the ring is empty."""
        while True:
            solvent = self._solvent
            while solvent and solvent[0].credit <= 0:
                self._spent.append(solvent.popleft())
            if solvent:
                return solvent[0]
            if not self._spent:
                return None
            self._start_round()

    def _start_round(self) -> None:
        spent = self._spent
        if len(spent) == 1:
            spent[0].credit = _QUANTUM  # nobody else to wait for
        else:
            for account in spent:
                account.credit += _QUANTUM
        self._solvent, self._spent = spent, deque()

    def drop(self) -> None:
        """Take the head out of the ring."""
        self._solvent.popleft()

    def turn(self) -> None:
        """The head had its turn."""
        self._solvent.rotate(-1)


class _Tenant:
    """The lanes of one tenant, by class."""

    __slots__ = ("classes", "credit", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.credit = 0.0
        self.classes: dict[int, _Ring[Sharer]] = {}

    def add(self, lane: Sharer) -> None:
        ring = self.classes.get(lane.urgency)
        if ring is None:
            ring = self.classes[lane.urgency] = _Ring()
        ring.add(lane)

    def pop(self, now: float) -> Sharer | None:
        """The lane whose turn it is, taken out; None when none is left."""
        heads = {}
        for urgency, ring in tuple(self.classes.items()):
            while (lane := ring.head()) is not None and lane.listed_as != urgency:
                ring.drop()
            if lane is None:
                del self.classes[urgency]
            else:
                heads[urgency] = lane
        if not heads:
            return None
        urgency = min(heads) if len(heads) == 1 else min(heads, key=lambda u: _rank(u, heads[u], now))
        self.classes[urgency].drop()
        return heads[urgency]


def _rank(urgency: int, lane: Sharer, now: float) -> tuple[float, int]:
    """Smaller goes first: the class, less what waiting has earned; among equals the more urgent class."""
    waited_s = max(now - lane.waiting_since(), 0.0)  # nobody is left in a lane that waits since infinity
    return urgency - waited_s // AGE_S, urgency


class FairQueue:
    """The lanes that may send, in the order in which they should."""

    __slots__ = ("_by_key", "_tenants")

    def __init__(self) -> None:
        self._tenants: _Ring[_Tenant] = _Ring()
        self._by_key: dict[Hashable, _Tenant] = {}

    def add(self, lane: Sharer) -> None:
        """List `lane` in its class, or move it up to it."""
        if lane.listed_as is not None and lane.listed_as <= lane.urgency:
            return
        lane.listed_as = lane.urgency
        tenant = self._by_key.get(lane.tenant)
        if tenant is None:
            tenant = self._by_key[lane.tenant] = _Tenant(lane.tenant)
            self._tenants.add(tenant)
        tenant.add(lane)

    def pop(self, now: float) -> Sharer | None:
        """Take the lane whose turn it is out of the queue; None when it is empty."""
        while (tenant := self._tenants.head()) is not None:
            lane = tenant.pop(now)
            if lane is not None:
                self._tenants.turn()
                lane.listed_as = None
                return lane
            self._tenants.drop()
            del self._by_key[tenant.key]
        return None

    def charge(self, lane: Sharer, items: int) -> None:
        """`lane` was served `items`; whoever has nothing more to send keeps no debt."""
        if lane.listed_as is not None:
            lane.credit -= items
        if lane.tenant in self._by_key:
            self._by_key[lane.tenant].credit -= items
