"""Chunk sizes follow the reader's bandwidth."""

from __future__ import annotations

import pytest

from proxy.streaming.chunking import LARGEST, SMALLEST, ChunkSizer


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
    sizer.taken(bandwidth, 1.0)
    assert (sizer.size, sizer.bandwidth) == (size, bandwidth)


@pytest.mark.parametrize(("start", "size"), [(1, SMALLEST), (128 << 10, 128 << 10), (1 << 30, LARGEST)])
def test_it_starts_with_what_the_policy_says_within_the_bounds(start: int, size: int) -> None:
    assert ChunkSizer(start).size == size


def test_one_slow_moment_does_not_decide() -> None:
    sizer = ChunkSizer(64 << 10)
    sizer.taken(100_000_000, 1.0)
    sizer.taken(0, 1.0)
    assert sizer.bandwidth == 50_000_000
    assert sizer.size == 512 << 10


def test_no_time_at_all_is_very_fast() -> None:
    sizer = ChunkSizer(64 << 10)
    sizer.taken(65536, 0.0)
    assert sizer.size == LARGEST
