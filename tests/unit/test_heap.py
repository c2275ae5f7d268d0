"""The heap of a process that has been set up: which pages of it are moved."""

from __future__ import annotations

import pytest

from proxy.heap import collapse, whole_pages

M = 1 << 20
HEAP = "{:x}-{:x} rw-p 00000000 00:00 0 {}"


@pytest.mark.parametrize(
    ("begin", "end", "pages"),
    [
        (2 * M, 4 * M, [2 * M]),
        (2 * M, 8 * M, [2 * M, 4 * M, 6 * M]),
        (2 * M + 4096, 6 * M + 4096, [4 * M]),
        (2 * M + 4096, 5 * M, []),
        (4096, 8192, []),
    ],
)
def test_only_what_fills_a_huge_page_is_moved(begin: int, end: int, pages: list[int]) -> None:
    assert list(whole_pages([HEAP.format(begin, end, "")])) == pages


def test_only_memory_of_our_own_is_moved() -> None:
    line = HEAP.format(2 * M, 4 * M, "[heap]")
    others = [
        line.replace("[heap]", "[stack]"),
        line.replace("[heap]", "/usr/lib/libc.so.6"),
        line.replace("rw-p", "r--p"),
        line.replace("rw-p", "rw-s"),
    ]
    assert list(whole_pages(others)) == []
    assert list(whole_pages([*others, line])) == [2 * M]


def test_nothing_that_was_made_is_lost() -> None:
    kept = [bytearray(range(256)) * 4096 for _ in range(8)]
    collapse()
    assert all(piece == bytearray(range(256)) * 4096 for piece in kept)
