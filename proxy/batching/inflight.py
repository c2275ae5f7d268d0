"""How many batches to keep in flight, learned from how much work the backend gets done.

Theory of operation
-------------------
The *efficiency* of some batches is the time that they would have taken on an idle backend (the latency
model knows it) divided by the time that they took; times the number in flight it is the *work rate*, the
number of batches that the backend really worked on at once. Neither depends on how large the batches were,
so both can be compared between limits.

The limit starts at 1, where batches have the backend to themselves and the latency model can be learned;
nothing is scored before it is. While calls are waiting at most completions (the window is *saturated*) a
higher limit is tried: twice as high while that keeps paying, one higher after that. The trial ends with the
limit that the work rate shows to be in use, at least the old and at most the tried one; so a gain of less
than half a batch for one batch added is no gain. (Overlapping hides the network's latency on any backend;
on one that computes serially it only makes batches smaller.) When the tried limit is more than calls ask
for, the work rate shows the demand and not what the backend could do; then the batches that used the added
slots decide: if they were not slowed down, the tried limit stands.

A trial that is clearly failing is cut short. One that gained nothing is not repeated for 1, 2, 4 … 64
saturated windows.

The limit falls to half when the backend says that it has too much to do (429, 503); to the work rate, when
that is less than half of the limit in two saturated windows in a row (a replica is gone); and by one in a
trial every 64 saturated windows, if the work rate hardly falls.

A backend that answers one item in less than two milliseconds and is not asked for full batches is left at
its limit (such batches are *quick*): nobody would see the gain, and small batches cost the proxy more than
they save.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("InflightLimit", "Trip")

_MOST = 64
_LONGEST_PAUSE = 64
_PROBE_DOWN_EVERY = 64
_UNHINDERED = 0.9  # efficiency of batches that nothing slowed down
_FEWEST_EXTRAS = 5
_COLLAPSED = 0.5  # share of the limit in use

_SHORT, _LONG = 12, 30  # batches in a window: while doubling, and later (four for each slot if that is more)
_VERDICT = 6  # batches after which a trial may be cut short
_HOPELESS = 0.25  # batches gained for one added


@dataclass(frozen=True, slots=True)
class Trip:
    """One batch that came back.

    `work_s` is how long it takes alone (0: not known), `seconds` how long it took, `company` how many others
    were in flight when it left. `is_crowded` says whether calls were waiting when it came back, `is_quick`
    that sending it earlier would have been no use.
    """

    work_s: float
    seconds: float
    company: int
    is_crowded: bool
    is_quick: bool = False


class _Window:
    """What a number of consecutive batches did."""

    __slots__ = (
        "batches",
        "busy_s",
        "crowded",
        "extra_s",
        "extra_work_s",
        "extras",
        "flight_s",
        "quick",
        "took_s",
        "work_s",
    )

    def __init__(self) -> None:
        self.batches = self.crowded = self.quick = self.extras = 0
        self.work_s = self.took_s = 0.0
        self.extra_work_s = self.extra_s = 0.0
        self.busy_s = 0.0  # time with anything in flight
        self.flight_s = 0.0  # the same, times how many

    def add(self, trip: Trip, *, is_extra: bool) -> None:
        self.batches += 1
        self.crowded += trip.is_crowded
        self.quick += trip.is_quick
        self.work_s += trip.work_s
        self.took_s += trip.seconds
        if is_extra:
            self.extras += 1
            self.extra_work_s += trip.work_s
            self.extra_s += trip.seconds

    @property
    def efficiency(self) -> float:
        return self.work_s / self.took_s

    @property
    def work_rate(self) -> float:
        return self.efficiency * self.flight_s / self.busy_s

    @property
    def is_saturated(self) -> bool:
        return 2 * self.crowded > self.batches

    @property
    def is_quick(self) -> bool:
        return 2 * self.quick > self.batches


class InflightLimit:
    """The learned number of batches that may be in flight at once: `limit`.

    The shell reports every batch with `started` and `finished`, and every refusal for overload with
    `refused`.
    """

    def __init__(self, most: int = _MOST) -> None:
        self.limit = 1
        self._most = most
        self._in_flight = 0
        self._last_at = 0.0
        self._window = _Window()
        self._baseline = self._window
        self._settling = 0
        self._before = 0  # the limit before the trial that is under way; 0: none is
        self._is_doubling = True
        self._pause = 0
        self._next_pause = 1
        self._since_probe = 0
        self._collapses = 0

    @property
    def work_rate(self) -> float:
        """Batches that the backend was last seen to work on at once; at least 1."""
        return max(1.0, self._baseline.work_rate) if self._baseline.batches else 1.0

    def started(self, now: float) -> None:
        """A batch was sent."""
        self._pass_time(now)
        self._in_flight += 1

    def finished(self, now: float, trip: Trip | None) -> None:
        """A batch came back; None: without an answer that says anything about the backend's speed."""
        self._pass_time(now)
        self._in_flight -= 1
        if trip is None or not trip.work_s or trip.seconds <= 0:
            return
        if self._settling:
            self._settling -= 1
            self._window.busy_s = self._window.flight_s = 0.0
            return
        window = self._window
        window.add(trip, is_extra=bool(self._before) and trip.company >= self._before)
        is_long_enough = window.batches >= (_SHORT if self._is_doubling else max(_LONG, 4 * self.limit))
        if window.busy_s and (is_long_enough or self._is_hopeless(window)):
            self._window = _Window()
            if self._before:
                self._judge(window)
            else:
                self._consider(window)

    def refused(self) -> None:
        """The backend said that it has too much to do."""
        self._before = 0
        self._is_doubling = False
        self._change(max(1, self.limit // 2))

    def _pass_time(self, now: float) -> None:
        span_s = now - self._last_at
        self._last_at = now
        if self._in_flight:
            self._window.busy_s += span_s
            self._window.flight_s += span_s * self._in_flight

    def _change(self, limit: int) -> None:
        # Batches that were sent under the old limit say nothing about the new one.
        self._settling = max(limit, self.limit)
        self._window = _Window()
        self.limit = limit

    def _consider(self, window: _Window) -> None:
        """Look for a better limit, if every slot of this one is used."""
        self._baseline = window
        if not window.is_saturated:
            return
        self._since_probe += 1
        if self.limit > 1 and window.work_rate < _COLLAPSED * self.limit:
            self._collapses += 1
            if self._collapses > 1:
                self._collapses = 0
                self._change(max(1, round(window.work_rate)))
            return
        self._collapses = 0
        if self._since_probe >= _PROBE_DOWN_EVERY and self.limit > 1:
            self._since_probe = 0
            self._try(self.limit - 1)
        elif self._pause:
            self._pause -= 1
        elif self.limit < self._most and not window.is_quick:
            self._try(min(self._most, 2 * self.limit if self._is_doubling else self.limit + 1))

    def _try(self, limit: int) -> None:
        self._before = self.limit
        self._change(limit)

    def _is_hopeless(self, window: _Window) -> bool:
        """Whether a trial upwards is so far from paying that the rest of it would only do harm."""
        before = self._before
        if not before or self.limit < before or window.batches < _VERDICT or not window.is_saturated:
            return False
        return self._in_use_of(before, window) < before + _HOPELESS * (self.limit - before)

    def _judge(self, window: _Window) -> None:
        """End a trial: choose between the limit before it and the one tried."""
        before, tried = self._before, self.limit
        self._before = 0
        if tried < before:
            chosen = tried if self._in_use_of(before, window) > before - 0.5 else before
        elif self._is_unhindered(window):
            chosen = tried
        else:
            chosen = min(tried, max(before, int(self._in_use_of(before, window) + 0.5)))
        if tried > before:
            self._is_doubling = self._is_doubling and chosen == tried
            self._pause = 0 if chosen > before else self._next_pause
            self._next_pause = 1 if chosen > before else min(_LONGEST_PAUSE, 2 * self._next_pause)
        if chosen == tried:
            self._baseline = window
        else:
            self._change(chosen)

    def _in_use_of(self, before: int, window: _Window) -> float:
        """How many slots a trial's `window` used, measured against the window under the limit `before`."""
        return before * window.work_rate / self._baseline.work_rate

    def _is_unhindered(self, window: _Window) -> bool:
        """Whether the added slots were more than enough, and whoever used them was not slowed down."""
        if window.is_saturated or window.extras < _FEWEST_EXTRAS:
            return False
        return window.extra_work_s >= _UNHINDERED * min(1.0, self._baseline.efficiency) * window.extra_s
