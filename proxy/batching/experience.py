"""What one upstream's batches have taught: its paths, who travels alone, which models are not batched at all.

Theory of operation
-------------------
After each batch the shell reports what became of it, and the next ones are formed accordingly. An answer
teaches the path's `Profile` and, where the number in flight is learned, the learner. A refusal for overload
(429, 503) halves the limit, one for size (413) the path's cap. Taking a failed batch apart teaches more:

* Members at fault are quarantined.
* If nobody was at fault, the batch was too large: the path's cap becomes the largest group that worked, at
  once after 413 or 429 and otherwise the second time in a row. (429 for a single call as well is about their
  rate, and smaller batches would make more of them.) If only single calls worked, merging itself does not.
* A sick backend is remembered for the lane, so that its next batches are not taken apart for the same answer.

A lane where merging failed three times in a row (only single calls worked, or the answer could not be cut)
is suspended: its calls travel alone for a minute. An answer that sets cookies suspends at once, since a
cookie is for one caller and a batch has many. A model that was found to answer differently in a batch, or
that declares that it cannot take batches, is not batched at all until it is loaded anew (`forget`) or the
process is started anew.

The table of paths is bounded: paths come from clients. The least recently made is forgotten first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from proxy.batching.company import Company
from proxy.batching.inflight import Trip
from proxy.batching.isolation import MISMATCH
from proxy.batching.profile import BatchRecord, Profile
from proxy.batching.quarantine import Quarantine

if TYPE_CHECKING:
    from collections.abc import Hashable

    from proxy.batching.isolation import Failure, Lesson
    from proxy.batching.outcome import Outcome
    from proxy.batching.plan import Plan, Slots
    from proxy.batching.tickets import CallLane, Journey

__all__ = ("Experience",)

_MOST_PATHS = 1024
_SUSPENSION_S = 60.0
_SICKNESS_S = 5.0
_STRIKES_TO_SUSPEND = 3
_QUICK_S = 0.002
_OVERLOADED = frozenset((429, 503))


class Experience:
    """What is known about one upstream. `barred` maps models that are not batched to the reason."""

    def __init__(self) -> None:
        self.company = Company()
        self.quarantine = Quarantine()
        self.barred: dict[str, str] = {}
        self.profiles: dict[Hashable, Profile] = {}

    def profile(self, key: Hashable, model: str, target: bytes, plan: Plan) -> Profile:
        """The profile of a path, new if need be."""
        profile = self.profiles.get(key)
        if profile is None:
            if len(self.profiles) >= _MOST_PATHS:
                del self.profiles[next(iter(self.profiles))]
            profile = self.profiles[key] = Profile(plan.new_cap, model, target)
        return profile

    def declare(self, model: str, items: int | None) -> None:
        """`model` takes at most `items` at once; 0: it takes no batches; None: there is no limit."""
        if items == 0:
            self.bar(model, "not_batchable")
            return
        for profile in self.profiles.values():
            if profile.name == model:
                profile.cap.declare(items)

    def bar(self, model: str, why: str) -> None:
        """Do not batch `model` any more."""
        if len(self.barred) < _MOST_PATHS:
            self.barred[model] = why

    def forget(self, model: str) -> None:
        """`model` was loaded anew: it is another model as far as anybody knows."""
        self.barred.pop(model, None)
        for profile in self.profiles.values():
            if profile.name == model:
                profile.forget()

    def learn(self, journey: Journey, outcome: Outcome, now: float, *, was_alone: bool) -> None:
        """A batch came back, and everybody in it is settled."""
        batch, lane = journey.batch, journey.lane
        profile = lane.profile
        failure = outcome.failure
        status = outcome.status if failure is None else failure.status
        record = BatchRecord(
            batch.sent_at,
            batch.items,
            len(batch.members),
            batch.trigger,
            batch.wait_s,
            outcome.seconds,
            max(status, 0),
        )
        profile.last.append(record)
        measured = None
        if outcome.seconds > 0:
            profile.answered(record, was_alone=was_alone)
            lane.strikes = 0
            lane.answered(batch.items, now)
            former = lane.plan.former
            former.awaited_until = max(former.awaited_until, lane.returns.until)
            measured = Trip(
                profile.work_s(batch.items),
                outcome.seconds,
                journey.others,
                is_crowded=former.waiting > 0 or lane.returns.until > now,
                is_quick=batch.trigger != "full" and profile.work_s(1) < _QUICK_S,
            )
        self._adjust(lane.plan.slots, measured, status, now)
        if status == 413 and batch.items > 1:
            profile.cap.refused(batch.items)
        if outcome.sets_cookies:
            lane.suspended_until = now + _SUSPENSION_S
        if failure is not None:
            self._take_lesson(journey, failure, outcome.lesson, now)

    def _adjust(self, slots: Slots, measured: Trip | None, status: int, now: float) -> None:
        learner = slots.learner
        if learner is not None:
            learner.finished(now, measured)
            if status in _OVERLOADED:
                learner.refused()
            slots.former.limit = learner.limit

    def _take_lesson(self, journey: Journey, failure: Failure, lesson: Lesson | None, now: float) -> None:
        lane = journey.lane
        if failure.status == MISMATCH:
            self._strike(lane, now)
        if lesson is None:
            return
        for index in lesson.culprits:
            call = journey.members[index].call
            self.quarantine.add(call.target, cast("bytes", call.body), now)  # no stream is ever merged
        if lesson.is_sick:
            lane.sick_as, lane.sick_until = failure, now + _SICKNESS_S
        elif lesson.largest_items and failure.is_too_much:
            lane.profile.cap.limit_to(lesson.largest_items)
        elif lesson.largest_items:
            lane.profile.was_too_large(lesson.largest_items)
        elif lesson.works_only_alone and failure.status != MISMATCH:
            self._strike(lane, now)

    def _strike(self, lane: CallLane, now: float) -> None:
        """Merging did not work; the third time in a row the lane is suspended."""
        lane.strikes += 1
        if lane.strikes >= _STRIKES_TO_SUSPEND:
            lane.strikes = 0
            lane.suspended_until = now + _SUSPENSION_S
