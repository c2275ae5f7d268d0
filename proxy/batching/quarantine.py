"""Calls that spoiled a batch, remembered for a while so that they do not spoil the next.

Theory of operation
-------------------
Clients retry. A call that failed its batch and failed alone is remembered by a digest of its target and
body for a minute; the same call travels alone until then. While nobody is remembered, which is nearly
always, asking costs a comparison and no digest. The oldest is forgotten when there are too many.
"""

from __future__ import annotations

import hashlib

__all__ = ("Quarantine",)

_SPAN_S = 60.0
_MOST = 1024


class Quarantine:
    """Who has to travel alone."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, target: bytes, body: bytes, now: float) -> None:
        """The call failed alone."""
        digest = _digest(target, body)
        self._until.pop(digest, None)  # so that it is the youngest again
        if len(self._until) >= _MOST:
            del self._until[next(iter(self._until))]
        self._until[digest] = now + _SPAN_S

    def holds(self, target: bytes, body: bytes, now: float) -> bool:
        """Whether the call has to travel alone."""
        if not self._until:
            return False
        digest = _digest(target, body)
        until = self._until.get(digest)
        if until is None:
            return False
        if until > now:
            return True
        del self._until[digest]
        return False


def _digest(target: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(b"%d %b %b" % (len(target), target, body), digest_size=16).digest()
