"""Compressed bodies, and what claims to be one."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.bridging.encodings import MOST, decoded
from proxy.errors import BadRequest, BodyTooLarge


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"text", None),
        (b"text", b"identity"),
        (gzip.compress(b"text"), b"gzip"),
        (gzip.compress(b"text"), b"X-GZip"),
        (gzip.compress(b"te") + gzip.compress(b"xt"), b"gzip"),
        (zlib.compress(b"text"), b"deflate"),
    ],
)
def test_a_body_comes_out_as_it_went_in(body: bytes, encoding: bytes | None) -> None:
    assert decoded(body, encoding) == b"text"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"text", b"br"),
        (b"text", b"gzip, gzip"),
        (b"text", b"gzip"),
        (b"", b"gzip"),
        (gzip.compress(b"text")[:-1], b"gzip"),
        (gzip.compress(b"text") + b"x", b"gzip"),
        (gzip.compress(b"text"), b"deflate"),
    ],
)
def test_what_is_not_what_it_claims_is_refused(body: bytes, encoding: bytes) -> None:
    with pytest.raises(BadRequest):
        decoded(body, encoding)


def test_a_small_body_may_grow_much() -> None:
    assert len(decoded(gzip.compress(bytes(4 << 20)), b"gzip")) == 4 << 20


@pytest.mark.parametrize("parts", [1, 2])
def test_a_large_body_may_not(parts: int) -> None:
    with pytest.raises(BodyTooLarge):
        decoded(gzip.compress(bytes(MOST // parts)) * parts, b"gzip")
