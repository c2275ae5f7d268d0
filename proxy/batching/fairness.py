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

Lanes of a more urgent class go first, but waiting counts: for each `AGE_S` that a lane's oldest ticket has
waited, its lane moves up a class. Nobody waits forever, and the delay is bounded by the number of classes.

Moving a lane to another class leaves its old entry behind; an entry counts only if the lane is still listed
in its class. All operations are O(1) amortised: each step of a round hands out credit that somebody then
uses up.
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
    __slots__ = ("credit", "key", "lanes")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.credit = 0.0
        self.lanes: _Ring[Sharer] = _Ring()


class _Rounds:
    """The tenants of one class."""

    __slots__ = ("_by_key", "_tenants", "_urgency")

    def __init__(self, urgency: int) -> None:
        self._urgency = urgency
        self._tenants: _Ring[_Tenant] = _Ring()
        self._by_key: dict[Hashable, _Tenant] = {}

    def add(self, lane: Sharer) -> None:
        tenant = self._by_key.get(lane.tenant)
        if tenant is None:
            tenant = self._by_key[lane.tenant] = _Tenant(lane.tenant)
            self._tenants.add(tenant)
        tenant.lanes.add(lane)

    def head(self) -> Sharer | None:
        """The lane whose turn it is; None when none is left."""
        while (tenant := self._tenants.head()) is not None:
            while (lane := tenant.lanes.head()) is not None:
                if lane.listed_as == self._urgency:
                    return lane
                tenant.lanes.drop()
            self._tenants.drop()
            del self._by_key[tenant.key]
        return None

    def take(self, lane: Sharer) -> None:
        """Take `lane`, which is the head, out of the rounds; the next tenant is next."""
        self._by_key[lane.tenant].lanes.drop()
        self._tenants.turn()

    def charge(self, tenant: Hashable, items: int) -> None:
        if tenant in self._by_key:
            self._by_key[tenant].credit -= items


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
            best_rounds.take(best)
            best.listed_as = None
        return best

    def charge(self, lane: Sharer, items: int) -> None:
        """`lane` was served `items`; whoever has nothing more to send keeps no debt."""
        if lane.listed_as is not None:
            lane.credit -= items
        for rounds in self._classes.values():
            rounds.charge(lane.tenant, items)
