"""Totals of a batch given back to its members."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs.usage import apportion, shares


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (6, [3, 3], [3, 3]),
        (7, [3, 3], [4, 3]),
        (10, [1, 2, 7], [1, 2, 7]),
        (2, [1, 1, 1], [1, 1, 0]),
        (5, [0, 0], [3, 2]),
        (0, [1, 2], [0, 0]),
    ],
)
def test_shares_are_whole_and_in_proportion(total: int, weights: list[int], expected: list[int]) -> None:
    assert apportion(total, weights) == expected


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_shares_add_up_and_are_never_off_by_one(total: int, weights: list[int]) -> None:
    found = apportion(total, weights)
    assert sum(found) == total
    whole = sum(weights)
    if whole:
        assert all(
            abs(share - total * weight / whole) < 1 for share, weight in zip(found, weights, strict=True)
        )


def test_only_counts_are_shared() -> None:
    usage = b'{"a":5,"b":null,"c":{"d":1},"e":1.5}'
    assert [msgspec.json.decode(one) for one in shares(usage, [1, 1])] == [
        {"a": 3, "b": None},
        {"a": 2, "b": None},
    ]
