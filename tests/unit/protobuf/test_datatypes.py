"""Elements as values and as bytes, checked by numpy's idea of them where the standard library has none."""

from __future__ import annotations

import math

import pytest

from proxy.protobuf.datatypes import WIDTHS, decode, encode


@pytest.mark.parametrize(
    ("datatype", "values", "data"),
    [
        ("BOOL", [True, False], b"\x01\x00"),
        ("BOOL", [1, 0], b"\x01\x00"),
        ("UINT8", [255], b"\xff"),
        ("INT8", [-1], b"\xff"),
        ("UINT16", [258], b"\x02\x01"),
        ("INT16", [-2], b"\xfe\xff"),
        ("UINT32", [1], b"\x01\0\0\0"),
        ("INT32", [-1, 1], b"\xff\xff\xff\xff\x01\0\0\0"),
        ("UINT64", [(1 << 64) - 1], b"\xff" * 8),
        ("INT64", [-1], b"\xff" * 8),
        ("FP16", [1.5], b"\x00\x3e"),
        ("BF16", [1.5], b"\xc0\x3f"),
        ("FP32", [1.5], b"\0\0\xc0\x3f"),
        ("FP64", [1.5], b"\0\0\0\0\0\0\xf8\x3f"),
        ("BYTES", [b"", b"ab"], b"\0\0\0\0\x02\0\0\0ab"),
    ],
)
def test_both_ways(datatype: str, values: list[object], data: bytes) -> None:
    assert encode(datatype, values) == data
    assert decode(datatype, data) == values
    assert WIDTHS.get(datatype, len(data)) * (len(values) if datatype in WIDTHS else 1) == len(data)


def test_texts_and_whole_numbers_are_elements_too() -> None:
    assert encode("BYTES", ["é"]) == b"\x02\0\0\0\xc3\xa9"
    assert encode("FP32", [1]) == encode("FP32", [1.0])


@pytest.mark.parametrize(
    ("value", "half"),
    [
        (1.0 + 2**-8, b"\x80\x3f"),  # a tie goes to the even neighbour
        (1.0 + 3 * 2**-8, b"\x82\x3f"),
        (1.0 + 2**-8 + 2**-12, b"\x81\x3f"),
        (math.inf, b"\x80\x7f"),
        (3.3e38, b"\x78\x7f"),
        (3.4e38, b"\x80\x7f"),
    ],
)
def test_brain_floats_are_rounded_to_the_nearest(value: float, half: bytes) -> None:
    assert encode("BF16", [value]) == half


def test_a_brain_float_that_is_no_number_stays_none() -> None:
    (value,) = decode("BF16", encode("BF16", [math.nan]))
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT32", [1.0]),
        ("INT32", [True]),
        ("FP32", ["1"]),
        ("FP32", [1e39]),
        ("FP16", [1e6]),
        ("BOOL", [2]),
        ("BOOL", [1.0]),
        ("BYTES", [1]),
        ("COMPLEX", [1]),
    ],
)
def test_what_is_not_of_the_type_is_refused(datatype: str, values: list[object]) -> None:
    with pytest.raises(ValueError, match=r"element|datatype"):
        encode(datatype, values)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("INT16", b"1"), ("BF16", b"1"), ("BYTES", b"\1\0\0\0"), ("BYTES", b"\1\0"), ("COMPLEX", b"")],
)
def test_bytes_that_are_no_elements_are_refused(datatype: str, data: bytes) -> None:
    with pytest.raises(ValueError, match="element"):
        decode(datatype, data)
