"""The addresses that one host name stands for, and in which order to dial them (pure).

A name may stand for several addresses: two families of one host, or many hosts behind one name. Dials start
at a different address each time, so that a name with many hosts spreads; an address that refused goes to the
end until it is the only one left or was dialed with success again, so that ``localhost`` whose ``::1`` nobody
listens on costs one failed dial and not one for each connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("AddressBook",)


class AddressBook:
    """Numeric addresses without duplicates, as resolved last."""

    __slots__ = ("_addresses", "_refused", "_turn")

    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._refused: set[str] = set()
        self._turn = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """What the name stands for."""
        return self._addresses

    def replace(self, addresses: Sequence[str]) -> frozenset[str]:
        """Take a new resolution; the addresses that are gone. An empty one is ignored: names flicker."""
        if not addresses:
            return frozenset()
        gone = frozenset(self._addresses) - frozenset(addresses)
        self._addresses = tuple(dict.fromkeys(addresses))
        self._refused &= frozenset(addresses)
        return gone

    def order(self) -> list[str]:
        """The order in which to try the addresses now."""
        good = [address for address in self._addresses if address not in self._refused]
        if good:
            turn = self._turn % len(good)
            good = good[turn:] + good[:turn]
        self._turn += 1
        return good + [address for address in self._addresses if address in self._refused]

    def dialed(self, address: str, *, is_open: bool) -> None:
        """A dial of `address` succeeded, or was refused."""
        if is_open:
            self._refused.discard(address)
        else:
            self._refused.add(address)
