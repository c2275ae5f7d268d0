"""Encoding on the way: when, in what, and that nothing is held back."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import brotli
import pytest
import zstandard

from proxy.streaming.compression import CODINGS, choose_coding, encoded_headers, encoder, may_encode

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = [b'data: {"token": "w%d"}\n\n' % number for number in range(50)]


def _decoder(coding: bytes) -> Callable[[bytes], bytes]:
    if coding == b"gzip":
        return zlib.decompressobj(31).decompress
    if coding == b"br":
        decode: Callable[[bytes], bytes] = brotli.Decompressor().process
        return decode
    return zstandard.ZstdDecompressor().decompressobj().decompress


@pytest.mark.parametrize("coding", CODINGS)
def test_each_event_can_be_decoded_as_soon_as_it_was_fed(coding: bytes) -> None:
    encode, decode = encoder(coding), _decoder(coding)
    for event in EVENTS:
        assert decode(encode.feed(event)) == event
    assert decode(encode.finish()) == b""


def test_all_three_codings_are_there() -> None:
    assert CODINGS == (b"zstd", b"br", b"gzip")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        (b"", None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br", b"br"),
        (b"GZIP;Q=0.8, br;q=0.5", b"gzip"),
        (b"*", b"zstd"),
        (b"gzip;q=0, *;q=0.1", b"zstd"),
        (b"gzip;q=0", None),
        (b"identity, gzip;q=0.5", None),
        (b"identity, gzip", b"gzip"),
        (b"gzip;q=many", None),
        (b"br;level=1", b"br"),
    ],
)
def test_the_client_has_the_choice(accept: bytes | None, coding: bytes | None) -> None:
    assert choose_coding(accept) == coding


@pytest.mark.parametrize(
    ("status", "headers", "media", "verdict"),
    [
        (200, (), b"text/event-stream", True),
        (200, (), b"application/json", True),
        (500, (), b"application/x-ndjson", True),
        (200, (), b"application/octet-stream", False),
        (200, (), b"", False),
        (206, (), b"text/plain", False),
        (304, (), b"text/plain", False),
        (200, ((b"Content-Encoding", b"gzip"),), b"text/plain", False),
        (200, ((b"Content-Encoding", b"identity"),), b"text/plain", True),
        (200, ((b"Content-Range", b"bytes 0-1/2"),), b"text/plain", False),
        (200, ((b"Cache-Control", b"no-cache, No-Transform"),), b"text/plain", False),
        (200, ((b"Cache-Control", b"no-cache"),), b"text/plain", True),
    ],
)
def test_what_may_be_encoded(
    status: int, headers: tuple[tuple[bytes, bytes], ...], media: bytes, *, verdict: bool
) -> None:
    assert may_encode(status, headers, media) == verdict


def test_an_encoded_answer_is_another_representation() -> None:
    headers = (
        (b"Content-Type", b"text/plain"),
        (b"ETag", b'"a"'),
        (b"Accept-Ranges", b"bytes"),
        (b"Content-Encoding", b"identity"),
    )
    assert encoded_headers(headers, b"br") == (
        (b"Content-Type", b"text/plain"),
        (b"ETag", b'W/"a"'),
        (b"Content-Encoding", b"br"),
        (b"Vary", b"Accept-Encoding"),
    )


def test_a_weak_tag_stays_and_vary_is_said_once() -> None:
    headers = ((b"etag", b'W/"a"'), (b"Vary", b"Origin, Accept-Encoding"))
    assert encoded_headers(headers, b"gzip") == (headers[1], headers[0], (b"Content-Encoding", b"gzip"))


def test_an_answer_left_as_it_is_says_that_it_could_have_been_encoded() -> None:
    headers = ((b"ETag", b'"a"'),)
    assert encoded_headers(headers, None) == (*headers, (b"Vary", b"Accept-Encoding"))
