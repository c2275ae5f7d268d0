"""The deadline of a call: what the client wishes, within what the route allows."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest
from proxy.exchange import Call
from proxy.routing.deadline import tightest
from proxy.timing import Deadline


def call(wish: bytes = b"", deadline: float = float("inf")) -> Call:
    wanted = Call(b"POST", b"/", (), deadline=Deadline(deadline))
    wanted.timeout_wish = wish
    return wanted


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (b"", 130.0),
        (b"2s", 102.0),
        (b"500ms", 100.5),
        (b"1.5", 101.5),
        (b"3", 103.0),
        (b"10m", 130.0),
        (b"0s", 100.0),
    ],
)
def test_a_wish_can_only_shorten(wish: bytes, expected: float) -> None:
    assert tightest(call(wish), now=100.0, timeout_s=30.0) == expected


def test_a_deadline_that_came_with_the_call_counts() -> None:
    assert tightest(call(b"20s", deadline=105.0), now=100.0, timeout_s=30.0) == 105.0


@pytest.mark.parametrize("wish", [b"soon", b"-1", b"1e3", b"nan", b"5 s"])
def test_a_wish_that_cannot_be_read_is_refused(wish: bytes) -> None:
    with pytest.raises(BadRequest, match="X-Request-Timeout"):
        tightest(call(wish), now=0.0, timeout_s=30.0)
