"""Heads that are repeated: read once, and read again when anything else about the call is different."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs import CODECS
from proxy.batching.intake import _MOST_HEADS, Intake
from proxy.errors import MergeRefused
from tests.support.batching import ADAPTIVE, JSON_FIELDS, Subject, policy, predict_call

if TYPE_CHECKING:
    from proxy.exchange import Call

SUBJECT = Subject()
TENANTS = [(*JSON_FIELDS, (b"X-Tenant", name)) for name in (b"a", b"b")]


def repeated(head: object, *instances: object) -> Call:
    call = predict_call(*instances)
    call.head = head
    return call


def test_equal_heads_have_one_stem_on_whatever_connection() -> None:
    intake = Intake(CODECS)
    calls = [predict_call(1.5), repeated("first", 1.5), repeated("second", 2.5), repeated("second", 3.5)]
    examined = [intake.examine(call, SUBJECT, ADAPTIVE) for call in calls]
    assert len({one.key for one in examined}) == 1
    assert len({id(one.stem) for one in examined}) == 1


def test_a_repeated_head_is_not_read_again() -> None:
    intake = Intake(CODECS)
    first, again = repeated("head", 1.5), repeated("head", 2.5)
    again.headers = ((b"Idempotency-Key", b"never looked at"),)
    keys = [intake.examine(call, SUBJECT, ADAPTIVE).key for call in (first, again)]
    assert keys[0] == keys[1]


def test_different_heads_have_different_stems() -> None:
    intake = Intake(CODECS)
    examined = [intake.examine(predict_call(1.5, headers=t), SUBJECT, ADAPTIVE) for t in TENANTS]
    assert examined[0].key != examined[1].key


def test_another_policy_or_route_reads_the_head_again() -> None:
    intake = Intake(CODECS)
    intake.examine(repeated("head", 1.5), SUBJECT, ADAPTIVE)
    with pytest.raises(MergeRefused, match="off"):
        intake.examine(repeated("head", 1.5), SUBJECT, policy(mode="off"))
    with pytest.raises(MergeRefused, match="no_codec"):
        intake.examine(repeated("head", 1.5), Subject(codec=None), ADAPTIVE)


def test_what_was_found_about_heads_is_bounded() -> None:
    intake = Intake(CODECS)
    for number in range(_MOST_HEADS + 2):
        intake.examine(repeated(number, 1.5), SUBJECT, ADAPTIVE)
        assert len(intake._origins) <= _MOST_HEADS
    assert len(intake._origins) == 2
