"""One managed model: where it is, what it holds, and what its requests add up to.

Theory of operation
-------------------
Every request touches its model's slot twice, so those two steps are kept to a few sums. Of hundreds of
requests a second not each teaches something. `begins` and `ends` say whether the planner has to look:

* a start is looked at when the model is not simply ready, and else once a second: the requests in between
  are summed up in `uncounted` and told to the history together;
* after each start that was looked at, the next end that leaves the model idle is looked at too (it is then
  that timers of idleness are set), and an end in any case once a second.

What others ask at any time is exact at any time: how many requests are in flight, and when the last one
ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.loading.costs import LoadCost
    from proxy.loading.history import ModelHistory
    from proxy.loading.policy import ModelLoadPolicy
    from proxy.loading.predictor import Cause

__all__ = ("Slot", "State")

_APART_S = 1.0


class State(StrEnum):
    """Where a model is, as the planner knows it."""

    UNKNOWN = "unknown"
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


_READY = State.READY  # reading a member of an enumeration costs as much as the sums it guards


@dataclass(slots=True, eq=False)
class Slot:
    """One managed model."""

    name: str
    policy: ModelLoadPolicy
    past: ModelHistory
    state: State = State.UNKNOWN
    held: int = 0
    """Bytes reserved or occupied now."""
    in_flight: int = 0
    uncounted: int = 0
    """Requests that the history has not been told of yet."""
    counted_at: float = -inf
    """When the planner last looked at a start."""
    ended_at: float = -inf
    """When the planner last looked at an end."""
    is_settled: bool = False
    """Whether the planner has looked at an end that left the model idle since it last looked at a start."""
    answers: int = 0
    """Good answers that the governor has not been told of yet."""
    answers_s: float = 0.0
    """Seconds that the backend took for them together."""
    answers_from: float = -inf
    """When the first of them was asked for."""
    value: float = 0.0
    """What an eviction order remembers of the last access."""
    last_used: float = -inf
    changed_at: float = -inf
    """When `state` last changed."""
    change: int = 0
    """Which of all changes that was."""
    unloaded_at: float = -inf
    cause: Cause = "demand"
    is_theirs: bool = False
    """Whether someone else has loaded it while we watched, for requests that we do not see."""
    is_pinned: bool = False
    is_draining: bool = False
    failures: int = 0
    """Loads that failed in a row."""
    is_given_up: bool = False
    """Whether it failed for good, as far as we can tell; it is tried again at `retry_at` all the same."""
    retry_at: float = -inf
    detail: str = ""
    """Why the last load failed."""
    is_in_doubt: bool = False
    """Whether we asked for the load and never heard how it ended: the next listing tells."""
    is_cancelled: bool = False
    """Whether the load that is being undone never ended."""
    stuck_until: float = -inf
    """Not asked to unload before, because it just failed to."""
    unloads: int = 0
    """Unload cycles so far: some backends give less memory back each time."""
    cost: LoadCost = field(init=False)

    def __post_init__(self) -> None:
        self.cost = self.past.cost

    def begins(self, now: float) -> bool:
        """Count a request that starts; True when that is all: it may go on, and nobody need look."""
        self.in_flight += 1
        self.uncounted += 1
        self.last_used = now
        return self.state is _READY and 0 <= now - self.counted_at < _APART_S and not self.is_draining

    def ends(self, now: float) -> bool:
        """Count a request that ends; True when that is all."""
        if self.in_flight:
            self.in_flight -= 1
        self.past.last_end = now
        has_looked = 0 <= now - self.ended_at < _APART_S and not self.is_draining
        return has_looked and (self.is_settled or self.in_flight > 0)

    def answered(self, began: float, seconds: float) -> None:
        """Count a good answer for which the backend, asked at `began`, took `seconds`."""
        if not self.answers:
            self.answers_from = began
        self.answers += 1
        self.answers_s += seconds

    def forgive(self, now: float) -> None:
        """Earlier failures count no more."""
        self.failures, self.is_given_up, self.retry_at, self.detail = 0, False, now, ""

    @property
    def is_resident(self) -> bool:
        """Whether the model holds memory."""
        return self.state in {State.LOADING, State.READY, State.UNLOADING}
