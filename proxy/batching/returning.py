"""Whether callers who were just answered are worth waiting for.

Theory of operation
-------------------
Callers that send their next call as soon as they have an answer (a pool of workers, a batch job, a load test)
come back together, a moment after their batch has landed. Sending whoever is there at that very moment splits
such a crowd for ever: with 64 of them, batches of 63 and of 1 take turns, and the one costs the backend
nearly as much time as the 63. Waiting for the moment in which they come back makes one batch of them all.

That moment is learned. After each batch of a lane, those who arrive within half of the backend's fixed cost
are counted, up to as many as were answered; means of their share and of the time that they take are kept.
Waiting pays when those who return are saved more than the others lose: `span` seconds cost everybody, and
spare each who returns nearly a fixed cost. It is done when the gain is twice the loss at least, and it ends
when as many as expected are there, or a little after the time that they usually take.

Calls that come by chance, however many, are spread over all of the time and fail that test; a caller who is
alone is nobody's company and is never held. Backends that do several things at once are not waited with: the
next batch keeps them busy.
"""

from __future__ import annotations

__all__ = ("Returns",)

_WEIGHT = 0.25  # of the newest observation
_TO_BE_BELIEVED = 3
_HORIZON = 0.5  # of the fixed cost; who comes later saves nothing worth waiting for
_LEAST_GAIN = 2.0  # times the loss
_PATIENCE = 1.25  # times the usual span


class Returns:
    """The callers of one lane, counted in items. `until` is when waiting for them ends; 0: they are not
    waited for."""

    __slots__ = (
        "_answered",
        "_answered_at",
        "_back",
        "_expected",
        "_horizon_at",
        "_last_at",
        "_observations",
        "_share",
        "_span_s",
        "until",
    )

    def __init__(self) -> None:
        self.until = 0.0
        self._answered = 0  # items of the last batch that landed
        self._answered_at = 0.0
        self._horizon_at = 0.0
        self._back = 0  # items that came since
        self._last_at = 0.0
        self._expected = 0
        self._observations = 0
        self._share = 0.0
        self._span_s = 0.0

    def came(self, items: int, now: float) -> None:
        """A call arrived."""
        if self._back < self._answered and now <= self._horizon_at:
            self._back += items
            self._last_at = now

    def answered(self, items: int, now: float, *, waiting: int, base_s: float) -> None:
        """A batch of `items` landed, and `waiting` more were there; `base_s`: a fixed cost, 0 if unknown."""
        if self._answered:
            self._learn()
        self._answered, self._back = items, 0
        self._answered_at = self._last_at = now
        self._horizon_at = now + _HORIZON * base_s
        self._expected = round(self._share * items)
        self.until = 0.0
        if self._observations >= _TO_BE_BELIEVED and self._pays(waiting, base_s):
            self.until = now + _PATIENCE * self._span_s

    def is_awaited(self, now: float) -> bool:
        """Whether the next batch should wait for somebody who is on the way back."""
        return now < self.until and self._back < self._expected

    def _pays(self, waiting: int, base_s: float) -> bool:
        span_s = _PATIENCE * self._span_s
        return self._expected * base_s > _LEAST_GAIN * span_s * (waiting + self._expected)

    def _learn(self) -> None:
        self._observations += 1
        weight = max(_WEIGHT, 1 / self._observations)
        self._share += weight * (min(self._back / self._answered, 1.0) - self._share)
        if self._back:
            self._span_s += weight * (self._last_at - self._answered_at - self._span_s)
