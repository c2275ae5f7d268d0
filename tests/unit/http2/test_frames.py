from __future__ import annotations

import pytest

from proxy.http2 import frames as f
from proxy.http2.errors import ErrorCode, SessionError, StreamError, describe

PING = f.ping_frame(b"12345678", ack=False)


@pytest.mark.parametrize("size", [1, 5, 9, 10, 17, 1000])
def test_reader_cuts_whatever_the_reads(size: int) -> None:
    wire = b"".join((PING, *f.data_frame(1, b"x" * 40, end_stream=True), f.settings_ack()))
    reader = f.FrameReader()
    found = [
        frame for start in range(0, len(wire), size) for frame in reader.feed(wire[start : start + size])
    ]
    assert found == [(f.PING, 0, 0, b"12345678"), (f.DATA, 1, 1, b"x" * 40), (f.SETTINGS, 1, 0, b"")]
    assert list(reader.feed(PING)) == [(f.PING, 0, 0, b"12345678")]


def test_reader_keeps_the_tail() -> None:
    reader = f.FrameReader()
    assert [kind for kind, *_ in reader.feed(PING + PING[:12])] == [f.PING]
    assert list(reader.feed(PING[12:])) == [(f.PING, 0, 0, b"12345678")]


@pytest.mark.parametrize("cut", [9, 4])
def test_reader_refuses_a_large_frame_before_it_arrives(cut: int) -> None:
    reader = f.FrameReader(100)
    head = f.frame(0x42, 0, 7, bytes(101))[:9]
    frames = (frame for part in (head[:cut], head[cut:]) for frame in reader.feed(part))
    with pytest.raises(SessionError, match=r"FRAME_SIZE_ERROR on stream 7: type 66 frame of 101 bytes"):
        next(frames)


def test_large_header_block_is_cut_into_continuations() -> None:
    frames = list(f.FrameReader().feed(f.header_frames(3, b"x" * 250, 100, end_stream=True)))
    assert frames == [
        (f.HEADERS, f.END_STREAM, 3, b"x" * 100),
        (f.CONTINUATION, 0, 3, b"x" * 100),
        (f.CONTINUATION, f.END_HEADERS, 3, b"x" * 50),
    ]


@pytest.mark.parametrize(
    ("data", "trailers", "expected"),
    [
        (b"", None, [(f.HEADERS, 5)]),
        (b"x", None, [(f.HEADERS, 4), (f.DATA, 1)]),
        (b"x", b"t", [(f.HEADERS, 4), (f.DATA, 0), (f.HEADERS, 5)]),
        (b"", b"t", [(f.HEADERS, 4), (f.HEADERS, 5)]),
    ],
)
def test_whole_message(data: bytes, trailers: bytes | None, expected: list[tuple[int, int]]) -> None:
    wire = b"".join(f.message_frames(1, b"h", data, trailers))
    assert [(kind, flags) for kind, flags, _, _ in f.FrameReader().feed(wire)] == expected


def test_parsers_read_what_encoders_write() -> None:
    assert f.parse_reset(1, f.reset_frame(1, 8)[9:]) == 8
    assert f.parse_window_update(1, f.window_update_frame(1, 77)[9:]) == 77
    assert f.parse_goaway(f.goaway_frame(5, 2, b"why")[9:]) == (5, 2, b"why")
    assert f.parse_settings(f.settings_frame(((1, 2), (99, 3)))[9:]) == [(1, 2), (99, 3)]


def test_increment_of_zero_reaches_as_far_as_its_stream() -> None:
    with pytest.raises(StreamError):
        f.parse_window_update(1, bytes(4))
    with pytest.raises(SessionError):
        f.parse_window_update(0, bytes(4))


def test_error_words() -> None:
    assert describe(8) == "CANCEL"
    assert describe(0x1234) == "0x1234"
    assert str(SessionError(ErrorCode.PROTOCOL_ERROR, "because")) == "PROTOCOL_ERROR: because"
