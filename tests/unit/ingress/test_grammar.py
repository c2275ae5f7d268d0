"""The strict grammar of request heads."""

from __future__ import annotations

import pytest

from proxy.errors import (
    BadRequest,
    HeadersTooLarge,
    MethodTooLong,
    ProxyError,
    TargetTooLong,
    VersionNotSupported,
)
from proxy.ingress.grammar import check_beginning, read_fields, read_request_line
from proxy.ingress.policy import LimitPolicy

LIMITS = LimitPolicy.model_construct(
    **{**LimitPolicy().__dict__, "target": 20, "headers": 3, "header_bytes": 200, "header_line": 60}
)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", 11)),
        (b"!#$%&'*+-.^_`|~aZ9 * HTTP/1.0", (b"!#$%&'*+-.^_`|~aZ9", b"*", 10)),
        (b"get /\xe9?[]|\\ HTTP/1.9", (b"get", b"/\xe9?[]|\\", 11)),
    ],
)
def test_a_request_line_is_three_parts(line: bytes, parts: tuple[bytes, bytes, int]) -> None:
    assert read_request_line(line, LIMITS) == parts


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", BadRequest),
        (b"GET /", BadRequest),
        (b"GET  / HTTP/1.1", BadRequest),
        (b"GET / HTTP/1.1 ", BadRequest),
        (b"G@T / HTTP/1.1", BadRequest),
        (b"GET /\x7f HTTP/1.1", BadRequest),
        (b"GET / HTTP/11.1", BadRequest),
        (b"GET / HTTP/2.0", VersionNotSupported),
        (b"GET / HTTP/0.9", VersionNotSupported),
        (b"GET /" + b"a" * 20 + b" HTTP/1.1", TargetTooLong),
        (b"GET /" + b"a" * 20, TargetTooLong),
        (b"G" * 49 + b" / HTTP/1.1", MethodTooLong),
    ],
)
def test_a_request_line_that_is_refused(line: bytes, error: type[ProxyError]) -> None:
    with pytest.raises(error):
        read_request_line(line, LIMITS)


def test_fields_keep_everything_but_the_white_space_around_values() -> None:
    block = b"A:b\r\nc_D:\t x\t y \t\r\nE:\r\n"
    assert read_fields(block, LIMITS) == [(b"A", b"b"), (b"c_D", b"x\t y"), (b"E", b"")]
    assert read_fields(b"A: \xff\x80\r\n", LIMITS) == [(b"A", b"\xff\x80")]
    assert read_fields(b"", LIMITS) == []


@pytest.mark.parametrize(
    "block",
    [b"A\r\n", b" A: b\r\n", b"A : b\r\n", b": b\r\n", b"A: b\n", b"A: b\r\n c\r\n", b"A: b\rc\r\n", b"A: \0\r\n",
     b"A: b\nB: c\r\n", b"A\xe9: b\r\n", b"A: b\x7f\r\n", b"A: b"[:4] + b"\n\r\n"],
)  # fmt: skip
def test_a_malformed_field_is_refused(block: bytes) -> None:
    with pytest.raises(BadRequest):
        read_fields(block, LIMITS)


def test_a_field_has_a_length_of_its_own() -> None:
    block = b"A: b\r\nB: " + b"c" * 57 + b"\r\n"
    assert len(read_fields(block, LIMITS)) == 2
    with pytest.raises(HeadersTooLarge):
        read_fields(b"A: b\r\nB: " + b"c" * 58 + b"\r\n", LIMITS)


def test_fields_are_counted_before_they_are_read() -> None:
    with pytest.raises(HeadersTooLarge):
        read_fields(b"\n" * 4, LIMITS)


@pytest.mark.parametrize(
    "begun", [b"G", b"GET / HTTP/1.1\r\nHost", b"GET / HTTP/1.1\r\nHost: h\r", b"GET / HT"]
)
def test_a_beginning_that_may_become_a_request(begun: bytes) -> None:
    check_beginning(begun, LIMITS)


@pytest.mark.parametrize(
    ("begun", "error"),
    [
        (b"\x16\x03\x01", BadRequest),
        (b"\r\n", BadRequest),
        (b"GET / HTTP/1.1\nHost: h\n\n", BadRequest),
        (b"GET / HTTP/1.1\r\nA: b\rc", BadRequest),
        (b"GET / HTTP/1.1\r\nA: \0", BadRequest),
        (b"GET /\r\n", BadRequest),
        (b"GET /" + b"a" * 90, TargetTooLong),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 200, HeadersTooLarge),
    ],
)
def test_a_beginning_that_cannot_become_a_request_is_refused_at_once(
    begun: bytes, error: type[ProxyError]
) -> None:
    with pytest.raises(error):
        check_beginning(begun, LIMITS)
