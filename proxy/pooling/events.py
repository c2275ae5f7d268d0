"""What a pool and a cluster report while they work; the application's recorder implements it."""

from __future__ import annotations

from typing import Protocol

__all__ = ("PoolEvents", "Sightings", "unobserved")


class PoolEvents(Protocol):
    """Called synchronously, most of it on the hot path; must not fail."""

    def connected(self, result: str, span_s: float) -> None:
        """A dial ended after `span_s` seconds: ``ok``, or the error's reason slug."""

    def closed(self, why: str, uses: int) -> None:
        """A connection ended that had carried `uses` calls; `why` is a `connection.Ended`."""

    def reused(self) -> None:
        """A call took a connection that had been used before."""

    def stale(self) -> None:
        """A pooled connection turned out to be dead when it was taken or used."""

    def waited(self, span_s: float) -> None:
        """A call got its connection, or gave up, after waiting `span_s` seconds."""

    def answered(self, status: int, span_s: float) -> None:
        """The upstream answered `status` in `span_s` seconds (to the head, for a stream)."""

    def retried(self) -> None:
        """A call is sent again."""

    def retry_ended(self, result: str) -> None:
        """What came of sending a call again: ``ok``, ``failed``, or ``budget`` if the budget forbade it."""

    def hedged(self) -> None:
        """A second copy of a slow call is sent."""

    def probed(self, result: str) -> None:
        """A health probe ended: ``ok``, or why not."""

    def ejected(self) -> None:
        """An endpoint was taken out of use because calls to it failed."""


class Sightings(Protocol):
    """Told after each health probe; must not fail."""

    def __call__(self, endpoint: str, /, *, is_alive: bool) -> None:
        """The endpoint (its URL) answered as it should, or could not be reached or did not.

        One that only was too busy to answer in time is not spoken of.
        """


def unobserved(_endpoint: str, /, *, is_alive: bool) -> None:
    """Nobody listens."""
