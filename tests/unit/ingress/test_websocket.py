"""Counting frames."""

from __future__ import annotations

import pytest

from proxy.ingress.websocket import FrameCounter

FRAMES = [
    b"\x81\x00",
    b"\x81\x05hello",
    b"\x82\x7e\x01\x00" + b"x" * 256,
    b"\x82\x7f" + (70_000).to_bytes(8, "big") + b"x" * 70_000,
    b"\x81\x85maskhello",
    b"\x88\x80mask",
]


@pytest.mark.parametrize("frame", FRAMES, ids=len)
def test_a_frame_ends_where_it_says(frame: bytes) -> None:
    subject = FrameCounter()
    seen = [subject.is_between]
    for piece in (frame[:-1], frame[-1:]):
        assert subject.feed(piece) == len(piece)
        seen.append(subject.is_between)
    assert seen == [True, False, True]


def test_all_at_once_and_byte_by_byte() -> None:
    stream = b"".join(FRAMES[:3])
    subject = FrameCounter()
    assert subject.feed(stream) == len(stream)
    assert subject.is_between
    ends = [at + 1 for at in range(len(stream)) if subject.feed(stream[at : at + 1]) and subject.is_between]
    assert ends == [2, 9, len(stream)]


def test_only_the_frame_in_hand() -> None:
    subject = FrameCounter()
    subject.feed(b"\x81\x05he")
    assert subject.feed(b"llo\x81\x05hello", only_one=True) == 3
    assert subject.is_between
    assert subject.feed(b"\x81\x05h", only_one=True) == 3
