"""The verdict on a reader."""

from __future__ import annotations

from proxy.stall import StallJudge


def test_a_reader_that_moves_is_never_given_up() -> None:
    judge = StallJudge(60.0)
    for taken in range(100):
        assert not judge.has_stalled(taken)


def test_a_reader_that_stops_is_given_up_within_one_and_a_half_spans() -> None:
    judge = StallJudge(60.0)
    now = judge.next_look(0.0)
    while not judge.has_stalled(7):
        now = judge.next_look(now)
    assert 60.0 <= now <= 90.0


def test_one_byte_starts_the_span_anew() -> None:
    judge = StallJudge(60.0)
    looks = [judge.has_stalled(taken) for taken in (7, 7, 7, 7, 8, 8, 8, 8, 8)]
    assert looks == [False] * 8 + [True]
