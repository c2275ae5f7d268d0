"""Watermarks within a budget."""

from __future__ import annotations

import pytest

from proxy.streaming.flow import LEAST, high_water


@pytest.mark.parametrize(
    ("streams", "high"), [(0, 256 << 10), (1, 256 << 10), (512, 256 << 10), (1024, 128 << 10), (10**6, LEAST)]
)
def test_many_streams_share_half_of_the_budget(streams: int, high: int) -> None:
    assert high_water(256 << 10, 256 << 20, streams) == high
