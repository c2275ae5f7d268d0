"""The verdict on a reader."""

from __future__ import annotations

from proxy.stall import StallJudge


def test_a_reader_that_moves_is_never_given_up() -> None:
    judge = StallJudge(60.0, 0.0)
    now = 0.0
    for taken in range(100):
        now = judge.next_look(now)
        assert not judge.has_stalled(now, taken)


def test_a_reader_that_stops_is_given_up_within_one_and_a_half_spans() -> None:
    judge = StallJudge(60.0, 0.0)
    now = judge.next_look(0.0)
    while not judge.has_stalled(now, 7):
        now = judge.next_look(now)
    assert 60.0 <= now <= 90.0


def test_one_byte_starts_the_span_anew() -> None:
    judge = StallJudge(60.0, 0.0)
    assert not judge.has_stalled(15.0, 7)
    assert not judge.has_stalled(74.0, 8)
    assert not judge.has_stalled(133.9, 8)
    assert judge.has_stalled(134.0, 8)
