"""One plain message in its frame, and everything else."""

from __future__ import annotations

import pytest

from proxy.protobuf.framing import NotPlain, frame, message_at, size_of


def test_a_message_in_its_frame() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x00\x03abc"
    assert message_at(frame(b"abc")) == 5
    assert message_at(frame(b"")) == 5


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "framing"),
        (b"\0\0\0\0", "framing"),
        (frame(b"abc")[:-1], "framing"),
        (frame(b"a") + frame(b"b"), "framing"),
        (b"\1" + frame(b"abc")[1:], "compressed"),
    ],
)
def test_what_is_not_one_plain_message(body: bytes, why: str) -> None:
    with pytest.raises(NotPlain, match=why) as caught:
        message_at(body)
    assert caught.value.why == why


def test_the_first_bytes_tell_how_many_there_will_be() -> None:
    assert size_of(b"\0\0\0\1") is None
    assert size_of(b"\0\0\0\1\2rest") == 5 + 258
