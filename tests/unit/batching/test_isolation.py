"""Taking a failed batch apart: who is found, with how many calls, and what everybody is told."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from proxy.batching.isolation import MISMATCH, NO_ANSWER, Failure, Group, Isolation, Lesson
from proxy.errors import ConnectFailed, DeadlineExceeded, Reset, StreamReset

BAD = Failure(400, (), b"bad item")
BROKEN = Failure(500, (), b"boom")
TOO_MUCH = Failure(429)
LOST = Failure(NO_ANSWER, error=Reset())
AWAY = Failure(NO_ANSWER, error=ConnectFailed())
LATE = Failure(NO_ANSWER, error=DeadlineExceeded())

Answer = Callable[[Group], Failure | None]


def take_apart(
    size: int, first: Failure, answer: Answer
) -> tuple[Lesson, list[Group], dict[int, Failure | None]]:
    """Play an isolation: its lesson, the groups that were sent, and what each member was told at last."""
    isolation = Isolation([1] * size, first)
    sent: list[Group] = []
    told: dict[int, Failure | None] = {}
    while (group := isolation.next_group()) is not None:
        sent.append(group)
        failure = answer(group)
        is_final = isolation.report(group, failure)
        if failure is None or is_final:
            told.update(dict.fromkeys(group, failure))
    told.update(dict.fromkeys(isolation.abandoned, first))
    return isolation.lesson, sent, told


def poisoned(*culprits: int) -> Answer:
    return lambda group: BAD if set(culprits) & set(group) else None


@pytest.mark.parametrize("size", [2, 3, 5, 16, 64, 100])
def test_one_culprit_is_found_wherever_it_is(size: int) -> None:
    for culprit in range(size):
        lesson, sent, told = take_apart(size, BAD, poisoned(culprit))
        assert lesson.culprits == (culprit,)
        assert told == {index: BAD if index == culprit else None for index in range(size)}
        assert len(sent) <= 2 * size.bit_length() + 1


@pytest.mark.parametrize("seed", range(10))
def test_everybody_gets_its_own_answer_however_many_are_at_fault(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(2, 60)
    culprits = chance.sample(range(size), chance.randint(0, size))
    lesson, sent, told = take_apart(size, BAD, poisoned(*culprits))
    assert lesson.culprits == tuple(sorted(culprits))
    assert told == {index: BAD if index in culprits else None for index in range(size)}
    assert len(sent) <= size + 16


def test_an_innocent_half_spares_the_trial_of_the_other() -> None:
    _, sent, _ = take_apart(8, BAD, poisoned(7))
    assert sent == [(0, 1, 2, 3), (4, 5), (6,), (7,)]


@pytest.mark.parametrize(
    "text",
    [
        b'{"error": "Failed to process element: 5 of \'instances\' list."}',
        b'{"detail":[{"loc":["body","instances",5,"age"],"msg":"field required"}]}',
        b'{"error":"invalid value at index 5"}',
        b'{"error":"instances[5]: expected a number"}',
        b"row #5 has the wrong length",
    ],
)
def test_an_error_that_names_the_item_costs_two_calls(text: bytes) -> None:
    lesson, sent, _ = take_apart(40, Failure(400, (), text), poisoned(5))
    assert sent == [(5,), (*range(5), *range(6, 40))]
    assert lesson.culprits == (5,)


def test_an_index_counts_items_and_not_members() -> None:
    isolation = Isolation([3, 4, 2], Failure(400, (), b"Failed to process element: 5 of"))
    assert isolation.next_group() == (1,)


@pytest.mark.parametrize("text", [b"Failed to process element: 99 of", b"input of 5 tokens is too long", b""])
def test_a_hint_that_names_nobody_is_no_hint(text: bytes) -> None:
    isolation = Isolation([1] * 8, Failure(400, (), text))
    assert isolation.next_group() == (0, 1, 2, 3)


def test_a_wrong_hint_is_corrected() -> None:
    lesson, _, told = take_apart(10, Failure(400, (), b"bad element: see index 2"), poisoned(7))
    assert lesson.culprits == (7,)
    assert sum(failure is not None for failure in told.values()) == 1


def test_two_members_need_no_hint() -> None:
    assert Isolation([1, 1], Failure(400, (), b"index 1")).next_group() == (0,)


def test_a_size_limit_is_learned_when_nobody_is_at_fault() -> None:
    lesson, _, told = take_apart(100, BAD, lambda group: BAD if len(group) > 32 else None)
    assert lesson == Lesson((), 25, works_only_alone=False, is_sick=False)
    assert set(told.values()) == {None}


def test_a_model_that_takes_no_batches_is_recognised() -> None:
    lesson, _, told = take_apart(20, BAD, lambda group: BAD if len(group) > 1 else None)
    assert lesson == Lesson((), 0, works_only_alone=True, is_sick=False)
    assert set(told.values()) == {None}


def test_too_large_is_halved_until_it_fits_and_nobody_is_suspected() -> None:
    too_large = Failure(413)
    lesson, sent, told = take_apart(16, too_large, lambda group: too_large if len(group) > 4 else None)
    assert [len(group) for group in sent] == [8, 4, 4, 8, 4, 4]
    assert lesson == Lesson((), 4, works_only_alone=False, is_sick=False)
    assert set(told.values()) == {None}


def test_a_backend_that_is_asked_too_often_is_asked_little_more() -> None:
    lesson, sent, told = take_apart(8, TOO_MUCH, lambda _: TOO_MUCH)
    assert sent == [(0, 1, 2, 3), (0,), (4, 5, 6, 7)]
    assert told == dict.fromkeys(range(8), TOO_MUCH)
    assert lesson == Lesson((), 0, works_only_alone=False, is_sick=False)


def test_half_of_what_was_too_much_may_be_taken() -> None:
    lesson, sent, told = take_apart(8, TOO_MUCH, lambda group: TOO_MUCH if 0 in group else None)
    assert sent == [(0, 1, 2, 3), (0,), (4, 5, 6, 7)]
    assert told == {index: TOO_MUCH if index < 4 else None for index in range(8)}
    assert lesson.culprits == ()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_backend_that_takes_few_at_once_gets_few_at_once(most: int) -> None:
    lesson, sent, told = take_apart(16, TOO_MUCH, lambda group: TOO_MUCH if len(group) > most else None)
    assert told == dict.fromkeys(range(16))
    assert lesson.largest_items == (most if most > 1 else 0)
    assert lesson.works_only_alone == (most == 1)
    assert len(sent) <= 16 + 16


def test_who_is_at_fault_was_not_too_much() -> None:
    def answer(group: Group) -> Failure | None:
        return TOO_MUCH if len(group) > 2 else BAD if 0 in group else None

    lesson, _, told = take_apart(8, TOO_MUCH, answer)
    assert told == {index: None if index else BAD for index in range(8)}
    assert lesson.culprits == (0,)


def test_a_single_call_that_is_too_much_is_no_culprit() -> None:
    too_large = Failure(413)
    lesson, _, told = take_apart(2, too_large, lambda group: too_large if group == (0,) else None)
    assert told == {0: too_large, 1: None}
    assert lesson.culprits == ()


def test_an_answer_that_cannot_be_cut_sends_everybody_alone_in_order() -> None:
    lesson, sent, _ = take_apart(4, Failure(MISMATCH), lambda _: None)
    assert sent == [(0,), (1,), (2,), (3,)]
    assert lesson.works_only_alone


def test_a_part_that_cannot_be_cut_is_sent_alone() -> None:
    mismatch = Failure(MISMATCH)
    _, sent, told = take_apart(4, BAD, lambda group: mismatch if group == (0, 1) else None)
    assert sent == [(0, 1), (0,), (1,), (2, 3)]
    assert set(told.values()) == {None}


def test_a_failure_that_concerns_all_ends_the_search_for_its_group() -> None:
    gone = Failure(503)
    lesson, sent, told = take_apart(8, BAD, lambda group: gone if 0 in group else None)
    assert sent == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [told[index] for index in range(8)] == [gone] * 4 + [None] * 4
    assert lesson.culprits == ()


@pytest.mark.parametrize("size", [3, 4, 5, 8, 64])
def test_a_sick_backend_is_asked_few_times(size: int) -> None:
    lesson, sent, told = take_apart(size, BROKEN, lambda _: BROKEN)
    assert lesson.is_sick
    assert len(sent) == 3
    assert told == dict.fromkeys(range(size), BROKEN)
    assert lesson.culprits == ()


def test_equal_errors_of_two_culprits_are_no_sickness() -> None:
    lesson, _, told = take_apart(16, BROKEN, lambda group: BROKEN if {0, 9} & set(group) else None)
    assert not lesson.is_sick
    assert lesson.culprits == (0, 9)
    assert sum(failure is not None for failure in told.values()) == 2


def test_a_refusal_of_everything_is_no_sickness() -> None:
    lesson, sent, _ = take_apart(32, BAD, lambda _: BAD)
    assert not lesson.is_sick
    assert lesson.culprits == tuple(range(32))
    assert len(sent) <= 32 + 16


@pytest.mark.parametrize("status", [301, 401, 403, 404, 502, 503, 504])
def test_some_failures_are_for_all(status: int) -> None:
    assert Failure(status).is_for_all


@pytest.mark.parametrize("status", [MISMATCH, 400, 413, 422, 429, 500])
def test_other_failures_are_looked_into(status: int) -> None:
    assert not Failure(status).is_for_all


# ------------------------------------------------------------- no answer at all
def crashes(*culprits: int) -> Answer:
    return lambda group: LOST if set(culprits) & set(group) else None


@pytest.mark.parametrize("size", [2, 3, 5, 16, 64, 200])
def test_an_item_that_kills_its_process_is_found_at_the_cost_of_two_more(size: int) -> None:
    for culprit in range(size):
        lesson, sent, told = take_apart(size, LOST, crashes(culprit))
        assert lesson == Lesson((culprit,), 0, works_only_alone=False, is_sick=False)
        assert told == {index: LOST if index == culprit else None for index in range(size)}
        assert sum(culprit in group for group in sent) <= 2
        assert sum(len(group) > 1 for group in sent) <= 16
        assert len(sent) <= 2 * size**0.5 + 3


def test_groups_of_a_very_large_batch_keep_within_the_budget() -> None:
    _, sent, told = take_apart(2000, LOST, crashes(1999))
    assert sum(len(group) > 1 for group in sent) <= 16
    assert sum(failure is not None for failure in told.values()) == 1


def test_who_was_lost_with_a_group_is_asked_alone_after_everybody_else() -> None:
    _, sent, _ = take_apart(9, LOST, crashes(0))
    assert sent == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0,), (1,), (2,)]


@pytest.mark.parametrize("size", [2, 3, 16, 64])
def test_a_backend_that_falls_by_itself_is_asked_twice_more(size: int) -> None:
    lesson, sent, told = take_apart(size, LOST, lambda _: LOST)
    assert lesson == Lesson((), 0, works_only_alone=False, is_sick=True)
    assert len(sent) == 2
    assert told == dict.fromkeys(range(size), LOST)


def test_a_backend_that_falls_again_and_again_is_left_alone() -> None:
    culprits = range(10, 64)
    lesson, sent, told = take_apart(64, LOST, crashes(*culprits))
    assert sum(bool(set(culprits) & set(group)) for group in sent) == 6
    assert lesson.is_sick
    assert set(told) == set(range(64))


def test_a_backend_that_is_starting_again_is_not_asked_further() -> None:
    lesson, sent, told = take_apart(64, LOST, lambda _: AWAY)
    assert lesson == Lesson((), 0, works_only_alone=False, is_sick=True)
    assert len(sent) == 1
    assert set(told) == set(range(64))


def test_a_backend_that_goes_away_leaves_what_was_found_before() -> None:
    def answer(group: Group) -> Failure | None:
        return AWAY if 7 in group else BAD if 0 in group else None

    lesson, _, told = take_apart(8, BAD, answer)
    assert lesson.culprits == (0,)
    assert lesson.is_sick
    assert told[7] == AWAY


def test_sickness_that_was_seen_in_parallel_stays() -> None:
    isolation = Isolation([1] * 8, BROKEN)
    groups = [isolation.next_group(), isolation.next_group()]
    assert isolation.report(groups[0] or (), AWAY)
    assert not isolation.report(groups[1] or (), BROKEN) or isolation.is_sick
    assert isolation.next_group() is None


def test_a_part_that_is_lost_while_others_are_refused_is_sent_alone() -> None:
    def answer(group: Group) -> Failure | None:
        return BAD if 7 in group else LOST if len(group) > 2 else None

    lesson, _, told = take_apart(8, BAD, answer)
    assert lesson.culprits == (7,)
    assert told == {index: None if index < 7 else BAD for index in range(8)}


def test_a_call_that_comes_too_late_is_no_culprit() -> None:
    lesson, _, told = take_apart(4, BAD, lambda group: LATE if group == (0, 1) else None)
    assert lesson.culprits == ()
    assert told == {0: LATE, 1: LATE, 2: None, 3: None}


def test_no_answer_is_for_all_unless_the_connection_broke() -> None:
    assert not LOST.is_for_all
    assert not Failure(NO_ANSWER, error=StreamReset()).is_for_all
    assert AWAY.is_for_all
    assert LATE.is_for_all
