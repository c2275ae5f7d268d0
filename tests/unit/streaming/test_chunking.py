"""Chunk sizes follow the reader's bandwidth."""

from __future__ import annotations

import pytest

from proxy.streaming.chunking import LARGEST, SMALLEST, ChunkSizer


def waited_for(sizer: ChunkSizer, count: int, span_s: float, *, now: float = 0.0, taken: int = 0) -> None:
    """The reader is waited for from `now`, when it has taken `taken` bytes, until it has taken `count` more."""
    sizer.waits(taken, now)
    sizer.caught_up(taken + count, now + span_s)


@pytest.mark.parametrize(
    ("bandwidth", "size"),
    [
        (1, SMALLEST),
        (100_000, SMALLEST),
        (5_000_000, 64 << 10),
        (20_000_000, 256 << 10),
        (2_000_000_000, LARGEST),
    ],
)
def test_a_chunk_lasts_the_reader_about_ten_milliseconds(bandwidth: int, size: int) -> None:
    sizer = ChunkSizer(64 << 10)
    waited_for(sizer, bandwidth, 1.0)
    assert (sizer.size, sizer.bandwidth) == (size, bandwidth)


@pytest.mark.parametrize(("start", "size"), [(1, SMALLEST), (128 << 10, 128 << 10), (1 << 30, LARGEST)])
def test_it_starts_with_what_the_policy_says_within_the_bounds(start: int, size: int) -> None:
    assert ChunkSizer(start).size == size


def test_one_slow_moment_does_not_decide() -> None:
    sizer = ChunkSizer(64 << 10)
    waited_for(sizer, 100_000_000, 1.0)
    waited_for(sizer, 0, 1.0, now=1.0, taken=100_000_000)
    assert sizer.bandwidth == 50_000_000
    assert sizer.size == 512 << 10


def test_a_burst_into_the_readers_buffer_is_not_its_bandwidth() -> None:
    sizer = ChunkSizer(64 << 10)
    for step in range(20):  # 50 kB within a tenth of each millisecond
        waited_for(sizer, 50_000, 0.0001, now=step / 1000, taken=step * 50_000)
        assert sizer.bandwidth < 60_000_000
    assert sizer.bandwidth == pytest.approx(50_000_000, rel=0.1)


def test_time_in_which_nothing_waited_is_left_out() -> None:
    sizer = ChunkSizer(64 << 10)
    waited_for(sizer, 100_000_000, 1.0)
    waited_for(sizer, 100_000_000, 1.0, now=60.0, taken=100_000_001)
    assert sizer.bandwidth == 100_000_000
