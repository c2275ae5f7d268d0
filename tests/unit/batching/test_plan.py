"""What follows from a policy."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from proxy.batching.plan import Plans
from proxy.batching.policy import BatchPolicy, ItemBounds
from tests.support.batching import policy


def test_a_policy_is_worked_out_once() -> None:
    plans, rules = Plans(), BatchPolicy()
    assert plans.of(rules) is plans.of(rules)
    assert plans.of(rules) is not plans.of(BatchPolicy(isolate=()))


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        (policy(), 1),
        (policy(inflight=7), 7),
        (policy(mode="window"), math.inf),
        (policy(mode="window", inflight=3), 3),
    ],
)
def test_the_number_in_flight_follows_the_mode(rules: BatchPolicy, limit: float) -> None:
    plan = Plans().of(rules)
    assert plan.former.limit == limit
    assert plan.slots.work_rate == limit
    assert (plan.slots.learner is not None) == (limit == 1)
    assert plan.former._lends == (limit == 1)


def test_policies_that_agree_about_slots_share_them() -> None:
    plans = Plans()
    one, same = plans.of(policy()), plans.of(policy(max_wait="1s"))
    other = plans.of(policy(inflight=2))
    assert one.former is same.former is not other.former
    assert len(plans.slots) == 2


def test_a_window_keeps_its_size() -> None:
    cap = Plans().of(policy(mode="window", items={"least": 10, "start": 30, "most": 90})).new_cap()
    cap.declare(None)
    assert cap.items == 30


def test_slots_made_during_a_drain_are_draining() -> None:
    plans = Plans()
    early = plans.of(policy(mode="window"))
    plans.drain()
    late = plans.of(policy(mode="window", inflight=2))
    assert early.former._is_draining
    assert late.former._is_draining


def test_old_plans_are_forgotten_but_not_their_slots() -> None:
    plans = Plans()
    first = BatchPolicy()
    former = plans.of(first).former
    policies = [BatchPolicy(isolate=(str(number),)) for number in range(300)]
    for rules in policies:
        plans.of(rules)
    assert len(plans._plans) <= 256
    assert plans.of(first).former is former


@pytest.mark.parametrize(
    "items", [{"least": 5, "start": 4}, {"start": 9, "most": 8, "least": 1}, {"least": 0}]
)
def test_bounds_out_of_order_are_refused(items: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ItemBounds.model_validate(items)
