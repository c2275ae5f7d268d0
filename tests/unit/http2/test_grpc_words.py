from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http2.grpc import (
    MessageMeter,
    encode_message,
    format_timeout,
    http_status,
    parse_timeout,
    status_headers,
)

if TYPE_CHECKING:
    from proxy.exchange import Headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"7u", 7e-6),
        (b"9n", 9e-9),
        (b"0S", 0.0),
    ],
)
def test_parse_timeout(text: bytes, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1s", b"-1S", b"123456789S", b"1.5S", b" 1S", b"1S\n"])
def test_no_timeout(text: bytes) -> None:
    assert parse_timeout(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, b"0u"),
        (0.0, b"0u"),
        (0.1, b"100000u"),
        (99.0, b"99000000u"),
        (100.0, b"100000m"),
        (3600.0, b"3600000m"),
        (200_000.0, b"200000S"),
        (2e8, b"3333334M"),
        (1e10, b"2777778H"),
        (1e30, b"99999999H"),
    ],
)
def test_format_timeout(seconds: float, text: bytes) -> None:
    assert format_timeout(seconds) == text


@given(st.floats(0, 1e8))
def test_a_written_timeout_is_never_shorter(seconds: float) -> None:
    read = parse_timeout(format_timeout(seconds))
    assert read is not None
    assert seconds * (1 - 1e-9) <= read <= seconds * 1.01 + 1e-6


def test_messages_are_percent_encoded() -> None:
    assert encode_message("50% of ü\n") == b"50%25 of %C3%BC%0A"


@pytest.mark.parametrize(("span_s", "value"), [(2.0, b"2000"), (0.0001, b"1"), (-3.0, b"1")])
def test_when_to_come_back_is_told_in_milliseconds(span_s: float, value: bytes) -> None:
    assert status_headers(14, "no", span_s)[3:] == ((b"grpc-retry-pushback-ms", value),)


def test_status_headers() -> None:
    assert status_headers(14, "no") == (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"no"),
    )


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (200, ((b"grpc-status", b"0"),), 200),
        (200, ((b"grpc-status", b"4"),), 504),
        (200, ((b"grpc-status", b"16"),), 401),
        (200, ((b"grpc-status", b"99"),), 500),
        (200, ((b"grpc-status", b"8"),), 429),
        (200, ((b"grpc-status", b"8"), (b"grpc-message", b"message larger than max")), 413),
        (404, ((b"grpc-status", b"0"),), 200),
        (200, (), 502),
        (404, (), 404),
    ],
)
def test_http_status(status: int, fields: Headers, expected: int) -> None:
    assert http_status(status, fields) == expected


def _message(size: int) -> bytes:
    return b"\0" + size.to_bytes(4, "big") + bytes(size)


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_message_sizes_are_read_in_any_pieces(piece: int) -> None:
    meter, wire = MessageMeter(10), _message(0) + _message(10) + _message(1)
    assert not any(meter.is_over(wire[start : start + piece]) for start in range(0, len(wire), piece))
    over = _message(11)[:5]
    assert [meter.is_over(over[start : start + piece]) for start in range(0, len(over), piece)][-1]
    assert meter.is_over(b"whatever")
