"""Repeated fields as runs, checked by the protobuf package."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.protobuf.message import Message
from proxy.protobuf.repeated import Repeated
from tests.support.inference_messages import inference

CASES = [
    (Repeated(1, is_signed=False), "bool_contents", [True, False, True, True]),
    (Repeated(2), "int_contents", [0, -1, 127, -(1 << 31), 300]),
    (Repeated(4, is_signed=False), "uint_contents", [0, 1 << 31, 128]),
    (Repeated(5, is_signed=False), "uint64_contents", [(1 << 64) - 1, 0, 1]),
    (Repeated(6, 4), "fp32_contents", [0.5, -1.0, 2.0]),
    (Repeated(7, 8), "fp64_contents", [0.1, 1e300]),
    (Repeated(8, is_bytes=True), "bytes_contents", [b"", b"ab", b"\xff" * 200]),
]


@pytest.mark.parametrize(("field", "name", "values"), CASES, ids=[name for _, name, _ in CASES])
def test_values_survive_joining_and_cutting(field: Repeated, name: str, values: list[Any]) -> None:
    data = inference.InferTensorContents(**{name: values}).SerializeToString()
    payload = field.payload(Message(data, 0, len(data), frozenset((field.tag,))))
    assert field.count(payload) == len(values)
    assert field.values(payload) == values
    assert field.field(payload) == data
    parts = field.cut(payload * 2, [1, 0, len(values) - 1, len(values)])
    assert [field.count(part) for part in parts] == [1, 0, len(values) - 1, len(values)]
    assert b"".join(parts) == payload * 2
    assert field.values(parts[3]) == values


def test_no_values_are_no_field() -> None:
    assert Repeated(6, 4).field(b"") == b""


def test_half_a_number_does_not_count() -> None:
    assert Repeated(6, 4).count(b"12345") == -1
    assert Repeated(2).count(b"\x80") == -1
