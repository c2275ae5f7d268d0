from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proxy.telemetry.line_writer import LineWriter
from tests.support.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = b"a line of sixteen bytes, or so\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # the test closed it


async def test_lines_leave_together_when_the_linger_is_over(pipe: tuple[int, int]) -> None:
    clock = ManualClock()
    writer = LineWriter(clock, pipe[1])
    await writer.start()
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert clock.pending == 1
    clock.advance(0.1)
    assert os.read(pipe[0], 100) == b"one\ntwo\n"
    await writer.stop()
    assert clock.pending == 0


async def test_a_full_chunk_does_not_wait(pipe: tuple[int, int]) -> None:
    clock = ManualClock()
    writer = LineWriter(clock, pipe[1])
    await writer.start()
    long_line = b"x" * 150_000 + b"\n"
    writer.write(long_line)
    writer.write(long_line)
    assert clock.pending == 0
    received = b""
    while len(received) < 2 * len(long_line):
        received += os.read(pipe[0], 100_000)
    assert received == long_line * 2
    await writer.stop()


async def test_stopping_writes_what_is_left(pipe: tuple[int, int]) -> None:
    writer = LineWriter(ManualClock(), pipe[1])
    await writer.start()
    writer.write(b"last words\n")
    await writer.stop()
    assert os.read(pipe[0], 100) == b"last words\n"
    assert writer.backlog_bytes == 0


async def test_a_reader_that_stopped_reading_costs_lines_not_time() -> None:
    # The thread is not running: the same as one that is stuck in a write.
    writer = LineWriter(ManualClock(), most_bytes=10 * len(LINE))
    for _ in range(25):
        writer.write(LINE)
    assert writer.dropped == 15
    assert writer.backlog_bytes == 10 * len(LINE)


async def test_a_closed_reader_is_survived(pipe: tuple[int, int]) -> None:
    writer = LineWriter(ManualClock(), pipe[1])
    os.close(pipe[0])
    await writer.start()
    writer.write(b"one\n")
    writer.write(b"two\n")
    await writer.stop()
    assert writer.dropped == 2
    assert writer.backlog_bytes == 0


async def test_a_non_blocking_descriptor_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = LineWriter(ManualClock(), pipe[1])
    await writer.start()
    line = b"x" * 1_000_000 + b"\n"  # more than a pipe holds
    writer.write(line)
    received = b""
    while len(received) < len(line):
        received += os.read(pipe[0], 1 << 20)
    assert received == line
    await writer.stop()
    assert writer.dropped == 0
