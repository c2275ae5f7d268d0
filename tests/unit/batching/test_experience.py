"""What batches teach."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from proxy.batching.codecs import CODECS
from proxy.batching.codecs.base import Prepared
from proxy.batching.experience import Experience
from proxy.batching.former import Batch
from proxy.batching.isolation import MISMATCH, Failure, Lesson
from proxy.batching.outcome import Outcome
from proxy.batching.plan import Plan, Plans
from proxy.batching.policy import BatchPolicy
from proxy.batching.tickets import CallLane, Journey, Member
from tests.support.batching import policy, predict_call

if TYPE_CHECKING:
    import asyncio

    from proxy.batching.former import Trigger
    from proxy.exchange import Reply


def journey_of(lane: CallLane, items: int, trigger: Trigger, now: float) -> Journey:
    nobody = cast("asyncio.Future[Reply]", None)  # waits for the answer
    rider = Member(lane, predict_call(float(items)), Prepared("key", items, (bytes(100),)), now, nobody)
    return Journey(Batch(lane, [rider], trigger, now), [rider], 0)


class School:
    """One lane, and batches that come back as the test says."""

    def __init__(self, rules: BatchPolicy | None = None) -> None:
        self.experience = Experience()
        self.plan = Plans().of(rules or BatchPolicy())
        profile = self.experience.profile("path", "digits", b"/p", self.plan)
        call = predict_call(1.5)
        self.lane = CallLane("key", self.plan, profile, call=call, codec=CODECS["kserve_v1"], headers=())
        self.now = 0.0

    def bring(self, outcome: Outcome, items: int = 10, *, was_alone: bool = True) -> None:
        """One batch of so many items leaves and comes back."""
        journey = journey_of(self.lane, items, "full", self.now)
        if self.plan.slots.learner is not None:
            self.plan.slots.learner.started(self.now)
        self.now += outcome.seconds
        self.experience.learn(journey, outcome, self.now, was_alone=was_alone)


def failed(
    status: int, *, culprits: tuple[int, ...] = (), largest: int = 0, alone: bool = False, sick: bool = False
) -> Outcome:
    lesson = Lesson(culprits, largest, works_only_alone=alone, is_sick=sick)
    return Outcome(200 if status == MISMATCH else status, failure=Failure(status), lesson=lesson)


def test_answers_teach_the_model() -> None:
    school = School()
    for _ in range(20):
        school.bring(Outcome(200, 0.5))
    profile = school.lane.profile
    assert profile.work_s(10) == pytest.approx(0.5)
    assert profile.service_s == pytest.approx(0.5)
    assert profile.item_cost_s > 0


def test_every_batch_is_remembered_with_its_status() -> None:
    school = School()
    school.bring(Outcome(200, 0.5))
    school.bring(Outcome())
    school.bring(failed(400))
    school.bring(failed(MISMATCH))
    assert [record.status for record in school.lane.profile.last] == [200, 0, 400, MISMATCH]


@pytest.mark.parametrize("status", [429, 503])
def test_overload_halves_the_limit(status: int) -> None:
    school = School()
    learner = school.plan.slots.learner
    assert learner is not None
    learner.limit = 8
    school.bring(failed(status))
    assert school.plan.former.limit == 4


def test_a_fixed_limit_is_not_touched() -> None:
    school = School(policy(inflight=8))
    school.bring(failed(503))
    assert school.plan.former.limit == school.plan.slots.work_rate == 8


@pytest.mark.parametrize(
    ("status", "items", "expected"), [(413, 40, 20), (429, 40, 100), (413, 1, 100), (400, 40, 100)]
)
def test_a_refusal_of_size_halves_the_cap(status: int, items: int, expected: int) -> None:
    school = School()
    school.bring(failed(status), items)
    assert school.lane.profile.cap.items == expected


@pytest.mark.parametrize("status", [413, 429])
def test_what_was_too_much_at_once_and_worked_in_parts_becomes_the_cap(status: int) -> None:
    school = School()
    school.bring(failed(status, largest=10), 40)
    assert school.lane.profile.cap.items == 10


def test_a_size_that_failed_twice_in_a_row_becomes_the_cap() -> None:
    school = School()
    school.bring(failed(400, largest=30), 60)
    assert school.lane.profile.cap.items == 100
    school.bring(Outcome(200, 0.1))
    school.bring(failed(400, largest=30), 60)
    assert school.lane.profile.cap.items == 100
    school.bring(failed(400, largest=25), 60)
    assert school.lane.profile.cap.items == 25


def test_merging_that_fails_three_times_in_a_row_is_given_up_for_a_minute() -> None:
    school = School()
    for outcome in (failed(400, alone=True), failed(MISMATCH, alone=True)):
        school.bring(outcome)
    assert school.lane.suspended_until == 0
    school.bring(failed(400, alone=True))
    assert school.lane.suspended_until == school.now + 60


def test_a_success_starts_the_count_anew() -> None:
    school = School()
    for outcome in (
        failed(MISMATCH),
        failed(MISMATCH),
        Outcome(200, 0.1),
        failed(MISMATCH),
        failed(MISMATCH),
    ):
        school.bring(outcome)
    assert school.lane.suspended_until == 0


def test_culprits_are_quarantined() -> None:
    school = School()
    school.bring(failed(400, culprits=(0,)))
    call = predict_call(10.0)
    assert isinstance(call.body, bytes)
    assert school.experience.quarantine.holds(call.target, call.body, school.now)


def test_a_failure_without_a_lesson_teaches_nothing() -> None:
    school = School()
    school.bring(Outcome(400, failure=Failure(400)))
    assert len(school.experience.quarantine) == 0
    assert school.lane.strikes == 0


def test_a_sick_backend_is_remembered_for_a_while() -> None:
    school = School()
    school.bring(failed(500, sick=True))
    assert school.lane.is_known_sick(Failure(500), school.now + 4.9)
    assert not school.lane.is_known_sick(Failure(500), school.now + 5.1)
    assert not school.lane.is_known_sick(Failure(500, (), b"other"), school.now)


def test_cookies_suspend_at_once() -> None:
    school = School()
    school.bring(Outcome(200, 0.1, sets_cookies=True))
    assert school.lane.suspended_until == school.now + 60


def test_a_declared_limit_goes_to_every_path_of_the_model() -> None:
    school = School()
    plan = Plan(BatchPolicy(), school.plan.slots)
    other = school.experience.profile("other path", "digits", b"/q", plan)
    stranger = school.experience.profile("third path", "iris", b"/r", plan)
    school.experience.declare("digits", 4)
    assert [profile.cap.items for profile in (school.lane.profile, other, stranger)] == [4, 4, 100]
    school.experience.declare("digits", None)
    assert other.cap.items == 100


def test_a_model_that_takes_no_batches_is_barred_until_it_is_loaded_anew() -> None:
    experience = Experience()
    experience.declare("digits", 0)
    assert experience.barred == {"digits": "not_batchable"}
    experience.forget("digits")
    assert not experience.barred


def test_a_model_that_is_loaded_anew_is_learned_anew() -> None:
    school = School()
    other = school.experience.profile("other path", "iris", b"/q", school.plan)
    for _ in range(20):
        school.bring(Outcome(200, 0.5))
    school.experience.declare("digits", 4)
    school.experience.declare("iris", 5)
    profile = school.lane.profile
    profile.is_known = True
    school.experience.forget("digits")
    assert (profile.cap.items, profile.work_s(10), profile.service_s, profile.is_known) == (
        100,
        0.0,
        0.0,
        False,
    )
    assert len(profile.last) == 20
    assert other.cap.items == 5


def test_the_tables_that_clients_fill_are_bounded() -> None:
    experience, plan = Experience(), Plans().of(BatchPolicy())
    for number in range(1100):
        experience.profile(number, str(number), b"/", plan)
        experience.bar(str(number), "why")
    assert len(experience.profiles) == len(experience.barred) == 1024
    assert 0 not in experience.profiles


def test_a_path_keeps_its_profile() -> None:
    experience, plan = Experience(), Plans().of(BatchPolicy())
    assert experience.profile("path", "m", b"/", plan) is experience.profile("path", "m", b"/", plan)


@pytest.mark.parametrize(("seconds", "highest"), [(0.010, 2), (0.001, 1)])
def test_small_quick_batches_are_no_reason_to_send_more_at_once(seconds: float, highest: int) -> None:
    school = School()
    learner = school.plan.slots.learner
    assert learner is not None
    school.plan.former.waiting = 1
    limits = []
    for _ in range(40):
        learner.started(school.now)
        school.now += seconds
        trip = journey_of(school.lane, 1, "slot_free", school.now - seconds)
        school.experience.learn(trip, Outcome(200, seconds), school.now, was_alone=True)
        limits.append(school.plan.former.limit)
    assert max(limits) == highest
