"""The chunked coding, whole and in any pieces."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge, ProxyError
from proxy.ingress.chunks import ChunkDecoder
from proxy.ingress.policy import LimitPolicy

LIMITS = LimitPolicy.model_construct(
    **{**LimitPolicy().__dict__, "body": 100, "headers": 3, "header_bytes": 60}
)
MESSAGE = b"3;a=b\r\nabc\r\n0A;c\r\n0123456789\r\n000\r\nX: 1\r\ny: 2\r\n\r\n"


def decoded(*pieces: bytes) -> tuple[bytes, int, ChunkDecoder]:
    """The body, how many bytes of the last piece are left over (-1: more are wanted), the decoder."""
    subject = ChunkDecoder(LIMITS)
    body: list[bytes] = []
    end = -1
    for piece in pieces:
        assert end == -1
        end = subject.feed(b"?" + piece, 1, body)
    return b"".join(body), end if end < 0 else len(pieces[-1]) + 1 - end, subject


def test_a_whole_body_and_what_follows() -> None:
    body, rest, subject = decoded(MESSAGE + b"GET")
    assert (body, rest) == (b"abc0123456789", 3)
    assert subject.trailers == ((b"X", b"1"), (b"y", b"2"))
    assert subject.size == 13


@pytest.mark.parametrize("cut", range(1, len(MESSAGE)))
def test_a_body_in_two_pieces(cut: int) -> None:
    body, rest, subject = decoded(MESSAGE[:cut], MESSAGE[cut:] + b"GET")
    assert (body, rest) == (b"abc0123456789", 3)
    assert subject.trailers == ((b"X", b"1"), (b"y", b"2"))


def test_a_body_byte_by_byte() -> None:
    body, rest, _ = decoded(*[MESSAGE[at : at + 1] for at in range(len(MESSAGE))])
    assert (body, rest) == (b"abc0123456789", 0)


def test_an_empty_body() -> None:
    assert decoded(b"0\r\n\r\n")[:2] == (b"", 0)


@pytest.mark.parametrize(
    "data", [b"3", b"3;", b"3;a=", b"3\r", b"3\r\nab", b"3\r\nabc\r", b"0\r\n", b"0\r\nA: b\r\n"]
)
def test_more_is_wanted(data: bytes) -> None:
    assert decoded(data)[1] == -1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"-1\r\n", BadRequest),
        (b"0x3\r\n", BadRequest),
        (b"3 \r\n", BadRequest),
        (b" 3\r\n", BadRequest),
        (b"\r\n", BadRequest),
        (b"3\n", BadRequest),
        (b"g", BadRequest),
        (b"11111111111111111\r\n", BadRequest),
        (b"3;a\x00\r\n", BadRequest),
        (b"3;" + b"a" * 4200, BadRequest),
        (b"1;" + b"a" * 2100 + b"\r\nx\r\n1;" + b"a" * 2100 + b"\r\n", BadRequest),
        (b"3\r\nabcd", BadRequest),
        (b"3\r\nabc\n", BadRequest),
        (b"3\r\nabc\r\r", BadRequest),
        (b"0\r\nA: b\n", BadRequest),
        (b"0\r\nA: b\r\n c\r\n\r\n", BadRequest),
        (b"65\r\n", BodyTooLarge),
        (b"64\r\n" + b"x" * 100 + b"\r\n1\r\n", BodyTooLarge),
        (b"0\r\nA: " + b"b" * 60, HeadersTooLarge),
        (b"0\r\nA: " + b"b" * 60 + b"\r\n\r\n", HeadersTooLarge),
        (b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", HeadersTooLarge),
    ],
)
def test_refused(data: bytes, error: type[ProxyError]) -> None:
    with pytest.raises(error):
        decoded(data)


def test_what_follows_long_trailers_does_not_count() -> None:
    assert decoded(b"0\r\nA: b\r\n\r\n" + b"x" * 200)[1] == 200
