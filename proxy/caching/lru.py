"""A mapping that forgets: bounded in bytes, least recently used first, and nothing outlives its instant.

Theory of operation ------------------- A dict keeps insertion order, so the front of the table is what was
used longest ago: a hit moves its entry to the back, and eviction takes from the front until what is to be
added fits. An entry larger than the whole bound is not taken at all. Costs are given by the entries; `nbytes`
is their sum and never exceeds `max_bytes`, not even while one is being added.

The instants at which entries die stand in a heap, so that a sweep touches only what is due. Replaced and
evicted entries leave their heap places behind, recognised later because the table no longer says the same
instant; when these ghosts outnumber the living, the heap is built again. Everything is O(1) amortised but the
heap's logarithm."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Lru", "Weighed")


class Weighed(Protocol):
    """What an entry must tell of itself."""

    @property
    def cost(self) -> int:
        """Bytes."""

    @property
    def dead_at(self) -> float:
        """The instant after which it may be forgotten."""


_Item = TypeVar("_Item", bound=Weighed)


class Lru(Generic[_Item]):
    """At most `max_bytes` of entries by key."""

    __slots__ = ("_costs", "_deaths", "_table", "evicted", "expired", "get", "max_bytes", "nbytes", "touch")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.evicted = 0
        self.expired = 0
        self._table: OrderedDict[bytes, _Item] = OrderedDict()
        self._deaths: list[tuple[float, bytes]] = []
        # Bound once: they are the whole cost of a hit here. `get` returns the entry or None, `touch` makes it
        # the last to go.
        self.get = self._table.get
        self.touch = self._table.move_to_end

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: bytes) -> bool:
        return key in self._table

    def __iter__(self) -> Iterator[bytes]:
        """The keys of now, least recently used first; the table may change meanwhile."""
        return iter(list(self._table))

    def values(self) -> list[_Item]:
        """The entries of now, least recently used first."""
        return list(self._table.values())

    def put(self, key: bytes, item: _Item) -> bool:
        """Keep `item`, at the expense of others if need be; False when it alone is over the bound."""
        self.drop(key)
        cost = item.cost
        if cost > self.max_bytes:
            return False
        while self.nbytes + cost > self.max_bytes:
            _, oldest = self._table.popitem(last=False)
            self.nbytes -= oldest.cost
            self.evicted += 1
        self._table[key] = item
        self.nbytes += cost
        heapq.heappush(self._deaths, (item.dead_at, key))
        if len(self._deaths) > 2 * len(self._table) + 64:
            self._deaths = [(kept.dead_at, name) for name, kept in self._table.items()]
            heapq.heapify(self._deaths)
        return True

    def drop(self, key: bytes) -> None:
        """Forget `key`; harmless when it is not there."""
        item = self._table.pop(key, None)
        if item is not None:
            self.nbytes -= item.cost

    def clear(self) -> None:
        """Forget everything."""
        self._table.clear()
        self._deaths.clear()
        self.nbytes = 0

    def sweep(self, now: float, most: int = 1000) -> bool:
        """Forget what died before `now`, at most `most` heap places; True when more may be due."""
        for _ in range(most):
            if not self._deaths or self._deaths[0][0] > now:
                return False
            dead_at, key = heapq.heappop(self._deaths)
            item = self._table.get(key)
            if item is not None and item.dead_at == dead_at:
                self.drop(key)
                self.expired += 1
        return bool(self._deaths) and self._deaths[0][0] <= now
