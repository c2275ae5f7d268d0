"""Comparing an answer from a batch with the answer alone."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from proxy.batching.verify import Sampler, is_same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"not json", b"not json"),
        (b'{"a":1.0,"b":[2]}', b'{"b": [2], "a": 1}'),
        (b'{"p":[0.123456789]}', b'{"p":[0.123456788]}'),
        (b'{"p":[0]}', b'{"p":[1e-9]}'),
        (b'{"p":[NaN,1]}', b'{"p":[NaN,1.0000001]}'),
        (b'{"p":[-Infinity,1e400]}', b'{"p": [-Infinity, 1e400]}'),
        (b'{"p":1%b}' % (b"0" * 400), b'{"p": 1%b}' % (b"0" * 400)),
        (b'{"id":"1","y":2}', b'{"id":"2","y":2}'),
        (b'{"usage":{"total_tokens":3},"y":2}', b'{"y":2}'),
    ],
)
def test_equal_but_for_rounding(one: bytes, other: bytes) -> None:
    assert is_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"{", b"}"),
        (b'{"p":[0.12]}', b'{"p":[0.13]}'),
        (b'{"p":[1,2]}', b'{"p":[1]}'),
        (b'{"p":[1,2]}', b'{"p":[2,1]}'),
        (b'{"p":1}', b'{"p":true}'),
        (b'{"p":NaN}', b'{"p":Infinity}'),
        (b'{"p":NaN}', b'{"p":1}'),
        (b'{"p":1%b}' % (b"0" * 400), b'{"p":1}'),
        (b'{"p":%b}' % (b"[" * 100_000), b'{"p": %b}' % (b"[" * 100_000)),
        (b'{"p":"cat"}', b'{"p":"dog"}'),
        (b'{"p":"cat and dog ABCD"}', b'{"p":"dog and cat ABCD"}'),
        (b'{"p":1}', b'{"q":1}'),
        (b'{"p":1}', b"[1]"),
    ],
)
def test_different(one: bytes, other: bytes) -> None:
    assert not is_same(one, other)


def packed(*numbers: float) -> bytes:
    return b'{"embedding":"%b"}' % base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers))


def test_packed_embeddings_are_compared_as_numbers() -> None:
    assert is_same(packed(0.25, -1.5), packed(0.250001, -1.5))
    assert is_same(packed(math.nan, -1.5), packed(math.nan, -1.500001))
    assert not is_same(packed(0.25, -1.5), packed(-1.5, 0.25))
    assert not is_same(packed(0.25), packed(0.25, 0.25))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.01, 10), (0.5, 500), (1.0, 1000)])
def test_a_sampler_picks_its_share_of_single_calls(share: float, expected: int) -> None:
    sampler = Sampler(share)
    assert sum(sampler.pick(1) is not None for _ in range(1000)) == pytest.approx(expected, abs=1)


def test_a_sampler_takes_one_of_a_batch_and_each_in_turn() -> None:
    sampler = Sampler(1.0)
    assert [sampler.pick(4) for _ in range(5)] == [1, 2, 3, 0, 1]


def test_large_batches_do_not_pile_up_samples() -> None:
    sampler = Sampler(1.0)
    assert sampler.pick(1000) is not None
    assert [sampler.pick(1) is not None for _ in range(3)] == [True, True, True]
    idle = Sampler(0.1)
    assert idle.pick(1000) is not None
    assert [idle.pick(1) is not None for _ in range(12)].count(True) == 2
