"""Keys, numbers and fields, taken apart and put together."""

from __future__ import annotations

import pytest

from proxy.protobuf.wire import (
    FIXED32,
    FIXED64,
    VARINT,
    Malformed,
    count_varints,
    cut,
    cut_varints,
    encode_field,
    encode_varint,
    key,
    read_varint,
    read_varints,
    signed,
)

MESSAGE = b"\x0a\x01a" + b"\x10\x96\x01" + b"\x1d1234" + b"\x2112345678" + b"\xa2\x06\x00"


def test_a_message_is_cut_into_its_fields() -> None:
    assert cut(MESSAGE) == [
        (key(1), 0, 2, 3),
        (key(2, VARINT), 3, 4, 6),
        (key(3, FIXED32), 6, 7, 11),
        (key(4, FIXED64), 11, 12, 20),
        (key(100), 20, 23, 23),
    ]


def test_a_submessage_is_cut_where_it_stands() -> None:
    assert cut(b"xx\x0a\x01ayy", 2, 5) == [(key(1), 2, 4, 5)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x02a",
        b"\x0a\xff",
        b"\x10",
        b"\x10\x80",
        b"\x10" + b"\xff" * 10 + b"\x01",
        b"\x1d123",
        b"\x211234567",
        b"\x0b",
        b"\x0c",
        b"\x0f",
        b"\x02\x00",
        b"\x80",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        cut(data)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 35, (1 << 64) - 1])
def test_numbers_are_read_as_they_were_written(value: int) -> None:
    data = encode_varint(value)
    assert read_varint(b"\xff" + data, 1, 1 + len(data)) == (value, 1 + len(data))


@pytest.mark.parametrize("value", [0, 5, -1, -(1 << 63), (1 << 63) - 1])
def test_negative_numbers_are_complements(value: int) -> None:
    data = encode_varint(value)
    assert signed(read_varint(data, 0, len(data))[0]) == value


def test_a_run_of_numbers() -> None:
    data = b"\x00\x96\x01\x7f"
    assert read_varints(data, 0, 4) == [0, 150, 127]
    assert count_varints(data) == 3
    assert count_varints(b"") == 0
    assert count_varints(b"\x01\x80") == -1


def test_runs_are_cut_at_the_ends_of_numbers() -> None:
    assert cut_varints(b"\x00\x96\x01\x7f\x80\x01", [1, 0, 2, 1]) == [
        b"\x00",
        b"",
        b"\x96\x01\x7f",
        b"\x80\x01",
    ]
    assert cut_varints(b"\x01\x02\x03", [2, 1]) == [b"\x01\x02", b"\x03"]
    assert cut_varints(b"", [0, 0]) == [b"", b""]


def test_a_field_has_its_length_before_it() -> None:
    assert encode_field(key(1), b"a") == b"\x0a\x01a"
    assert encode_field(key(100), b"x" * 200) == b"\xa2\x06\xc8\x01" + b"x" * 200
