"""What carries the bench's large messages neither loses a byte nor passes a window."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bench.calls.bulk import MESSAGE, WINDOW, Found, Pourer, Skimmer, Takings
from proxy.http2 import frames

if TYPE_CHECKING:
    from collections.abc import Iterable

_LENGTH = MESSAGE + 5  # with its prefix


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return False

    def data(self) -> dict[int, int]:
        """Bytes of DATA so far, by stream."""
        sizes: dict[int, int] = {}
        for kind, _flags, stream_id, payload in frames.FrameReader(1 << 20).feed(self.written):
            assert kind == frames.DATA
            sizes[stream_id] = sizes.get(stream_id, 0) + len(payload)
        return sizes


def skimmed(data: bytes, step: int, *, skip: int = 0) -> list[Found]:
    skimmer = Skimmer(skip)
    found: list[Found] = []
    for start in range(0, len(data), step):
        part = data[start : start + step]
        skimmer.free()[: len(part)] = part
        found += skimmer.skim(len(part))
    return found


@pytest.mark.parametrize("step", [1, 7, 100, 1 << 19])
def test_reads_may_be_cut_anywhere(step: int) -> None:
    ping = frames.ping_frame(b"12345678", ack=False)
    data = frames.frame(frames.DATA, 0, 3, bytes(300)) + ping + frames.frame(frames.DATA, 1, 5)
    found = skimmed(frames.PREFACE + data, step, skip=len(frames.PREFACE))
    assert found[1:] == [
        (frames.DATA, 0, 3, 300, b""),
        (frames.PING, 0, 0, 8, b"12345678"),
        (frames.DATA, 1, 5, 0, b""),
    ]


def test_a_message_leaves_as_far_as_the_windows_go() -> None:
    wire = Wire()
    pourer = Pourer(wire)
    pourer.begin(1, 1)
    pourer.pour()
    assert wire.data() == {1: 3 * frames.DEFAULT_FRAME_SIZE}
    pourer.control(frames.WINDOW_UPDATE, 1, (1 << 20).to_bytes(4, "big"))
    pourer.pour()
    assert wire.data() == {1: 3 * frames.DEFAULT_FRAME_SIZE}, "the connection's window is shut"
    pourer.control(frames.WINDOW_UPDATE, 0, (1 << 20).to_bytes(4, "big"))
    pourer.pour()
    assert wire.data() == {1: _LENGTH}
    assert wire.written.endswith(frames.frame(frames.DATA, frames.END_STREAM, 1))


def test_streams_take_turns_for_whole_messages() -> None:
    wire = Wire()
    pourer = Pourer(wire)
    initial = 2 * _LENGTH
    settings = frames.settings_frame(((frames.SETTING_INITIAL_WINDOW_SIZE, initial),))[9:]
    pourer.begin(1)
    pourer.begin(3)
    pourer.control(frames.SETTINGS, 0, settings)
    pourer.control(frames.WINDOW_UPDATE, 0, (1 << 20).to_bytes(4, "big"))
    pourer.pour()
    assert wire.data() == {1: initial, 3: initial}


def test_nothing_is_sent_into_a_full_socket_or_on_a_reset_stream() -> None:
    wire = Wire()
    pourer = Pourer(wire)
    pourer.begin(1)
    pourer.is_writable = False
    pourer.pour()
    pourer.is_writable = True
    pourer.control(frames.RST_STREAM, 1, bytes(4))
    pourer.pour()
    assert not wire.written


def test_windows_are_given_back_by_the_quarter() -> None:
    takings = Takings()
    assert not list(takings.took(1, WINDOW // 4 - 1))
    updates = list(takings.took(1, 1))
    assert updates == [frames.window_update_frame(owner, WINDOW // 4) for owner in (0, 1)]
