"""Bytes that wait in memory, and how many may wait in all (pure).

A `Reservoir` holds the pieces of one body, a `Ledger` counts the bytes of all of them. A piece is never
cut: an event or a character that came whole leaves whole.
"""

from __future__ import annotations

from collections import deque

__all__ = ("Ledger", "Reservoir")


class Ledger:
    """How many bytes of bodies are held in memory, over all calls of a listener or a process.

    `used` counts what waits in streams, in gathered bodies and behind slow readers; it may pass `limit` by
    what one read brings. Above three quarters of it every stream is kept to one read at a time; at `limit`
    no new call is admitted.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def is_full(self) -> bool:
        """True when no new call may come in."""
        return self.used >= self.limit

    @property
    def is_tight(self) -> bool:
        """True when streams may hold one read only."""
        return 4 * self.used > 3 * self.limit


class Reservoir:
    """Bytes that wait for a consumer, in the pieces in which they came, counted on a ledger if there is one.

    `size` is what waits here, `held` what the consumer has taken and could not pass on yet.
    """

    __slots__ = ("held", "ledger", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.held = 0
        self.ledger: Ledger | None = None

    def add(self, data: bytes) -> None:
        """Behind what waits."""
        self.pieces.append(data)
        self._count(len(data))

    def put_back(self, data: bytes) -> None:
        """Before what waits."""
        self.pieces.appendleft(data)
        self._count(len(data))

    def take(self) -> bytes:
        """Everything that waits."""
        pieces = self.pieces
        data = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._count(-self.size)
        return data

    def take_some(self, most: int) -> bytes:
        """Whole pieces of at most `most` bytes together, but at least one: a piece is never cut."""
        pieces = self.pieces
        taken = [pieces.popleft()]
        size = len(taken[0])
        while pieces and size + len(pieces[0]) <= most:
            size += len(pieces[0])
            taken.append(pieces.popleft())
        self._count(-size)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    @property
    def is_tight(self) -> bool:
        """True when so much waits over all bodies that this one is to be kept to one read."""
        return self.ledger is not None and self.ledger.is_tight

    def hold(self, size: int) -> None:
        """The consumer holds `size` bytes now."""
        if self.ledger is not None:
            self.ledger.used += size - self.held
        self.held = size

    def open(self, ledger: Ledger) -> None:
        """Count on `ledger` from now on."""
        self.ledger = ledger
        ledger.used += self.size + self.held

    def _count(self, size: int) -> None:
        self.size += size
        if self.ledger is not None:
            self.ledger.used += size
