"""Admission: a bound on calls in flight."""

from __future__ import annotations

import pytest

from proxy.errors import BuffersFull, Overloaded, OverQuota
from proxy.exchange import Ledger
from proxy.routing.admission import Admission
from proxy.routing.quotas import Quotas


def test_calls_beyond_the_limit_are_refused_until_one_leaves() -> None:
    admission = Admission(2)
    admission.enter()
    admission.enter()
    with pytest.raises(Overloaded) as caught:
        admission.enter()
    assert caught.value.retry_after_s == 1.0
    assert admission.in_flight == 2
    admission.leave()
    admission.enter()
    assert admission.in_flight == 2


def test_full_buffers_refuse_newcomers_and_leave_the_others_alone() -> None:
    ledger = Ledger(100)
    admission = Admission(10, ledger)
    admission.enter()
    ledger.used = 100
    with pytest.raises(BuffersFull) as caught:
        admission.enter()
    assert caught.value.retry_after_s == 1.0
    assert admission.in_flight == 1
    ledger.used = 99
    admission.enter()


def test_a_caller_over_its_quota_takes_no_place() -> None:
    admission = Admission(10, quotas=Quotas(0, 1))
    admission.enter(b"a", 0.0)
    with pytest.raises(OverQuota):
        admission.enter(b"a", 0.0)
    admission.enter(b"b", 0.0)
    assert admission.in_flight == 2
    admission.retract(b"b")
    admission.leave(b"a")
    assert admission.in_flight == 0
    admission.enter(b"a", 0.0)
