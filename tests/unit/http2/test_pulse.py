"""When a silent peer is asked, and when it is given up."""

from __future__ import annotations

from proxy.http2.pulse import Pulse


def test_a_peer_that_speaks_is_not_asked() -> None:
    pulse = Pulse(10.0)
    assert pulse.look(5.0, heard_at=0.0) == "fine"
    assert pulse.due_at == 10.0
    assert pulse.look(12.0, heard_at=8.0) == "fine"
    assert pulse.due_at == 18.0


def test_a_silent_peer_is_asked_once_and_then_given_up() -> None:
    pulse = Pulse(10.0)
    assert pulse.look(10.0, heard_at=0.0) == "ask"
    assert pulse.due_at == 20.0
    assert pulse.look(15.0, heard_at=0.0) == "fine"
    assert pulse.due_at == 20.0
    assert pulse.look(20.0, heard_at=0.0) == "gone"


def test_a_peer_that_answers_is_left_alone_for_a_while() -> None:
    """Two questions within five minutes are abuse to a gRPC server."""
    pulse = Pulse(10.0)
    pulse.look(10.0, heard_at=0.0)
    assert pulse.look(20.0, heard_at=11.0) == "fine"
    assert pulse.due_at == 320.0
    assert pulse.look(319.0, heard_at=11.0) == "fine"
    assert pulse.look(320.0, heard_at=11.0) == "ask"


def test_what_was_heard_before_the_question_is_no_answer() -> None:
    pulse = Pulse(10.0)
    pulse.look(10.0, heard_at=0.0)
    assert pulse.look(20.0, heard_at=10.0) == "gone"


def test_nothing_is_asked_when_told_so() -> None:
    pulse = Pulse(0.0)
    assert pulse.look(1e9, heard_at=0.0) == "fine"
    assert pulse.due_at == float("inf")
