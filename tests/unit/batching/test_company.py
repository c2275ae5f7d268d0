"""Which batches had the backend to themselves."""

from __future__ import annotations

from proxy.batching.company import Company


def test_a_batch_that_met_nobody_was_alone() -> None:
    company, batch = Company(), object()
    assert company.enter(batch) == 0
    assert company.leave(batch)
    assert company.count == 0


def test_a_batch_that_found_somebody_was_not_alone() -> None:
    company, batch = Company(), object()
    company.enter()
    assert company.enter(batch) == 1
    company.leave()
    assert not company.leave(batch)


def test_a_batch_that_was_joined_was_not_alone() -> None:
    company, batch = Company(), object()
    company.enter(batch)
    company.enter()
    company.leave()
    assert not company.leave(batch)


def test_the_next_batch_starts_afresh() -> None:
    company, first, second = Company(), object(), object()
    company.enter(first)
    company.enter(second)
    assert [company.leave(first), company.leave(second)] == [False, False]
    company.enter(first)
    assert company.leave(first)


def test_a_call_that_is_no_batch_is_never_alone() -> None:
    company = Company()
    company.enter()
    assert not company.leave()
