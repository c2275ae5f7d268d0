"""Reads that are one whole chunk, which need no parser, and all the ones that only look like it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadReply
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.reply_reader import ReplyReader
from proxy.pooling.wire import encode_chunk

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def between_chunks() -> ReplyReader:
    subject = ReplyReader(HeadTable())
    subject.expect(b"GET")
    subject.feed(HEAD + b"3\r\nhel\r\n")
    assert subject.chunks.pop() == b"hel"
    return subject


def taken(subject: ReplyReader, read: bytes) -> bytes:
    """What a connection makes of `read`."""
    data = subject.lone_chunk(read)
    if data:
        return data
    subject.feed(read)
    pieces, subject.chunks = subject.chunks, []
    return b"".join(pieces)


def test_a_chunk_of_any_size_is_known_by_its_length() -> None:
    subject = between_chunks()
    for size in range(1, 4090):
        data = b"x" * size
        assert subject.lone_chunk(encode_chunk(data)) == data


def test_a_long_one_is_left_to_the_parser() -> None:
    subject = between_chunks()
    long = encode_chunk(b"x" * 5000)
    assert not subject.lone_chunk(long)
    assert taken(subject, long) == b"x" * 5000
    assert subject.lone_chunk(b"1\r\nx\r\n") == b"x"


@pytest.mark.parametrize(
    "read",
    [
        b"A\r\n0123456789\r\n",
        b"0a\r\n0123456789\r\n",
        b"a;x=y\r\n0123456789\r\n",
        b"5\r\n01234\r\n5\r\n56789\r\n",
    ],
    ids=["capital", "leading zero", "extension", "two chunks"],
)
def test_what_is_framed_in_another_way_is_left_to_the_parser(read: bytes) -> None:
    subject = between_chunks()
    assert not subject.lone_chunk(read)
    assert taken(subject, read) == b"0123456789"
    assert subject.lone_chunk(b"1\r\nx\r\n") == b"x"


@pytest.mark.parametrize(
    "read",
    [
        b"",
        b"\r\n",
        b"0\r\n\r\n",
        b"x\r\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n\n",
        b"3\nabcd\r\n",
        b"-1\r\nabc\r\n",
    ],
)
def test_what_is_no_chunk_is_none(read: bytes) -> None:
    assert not between_chunks().lone_chunk(read)


@pytest.mark.parametrize(
    "begun",
    [
        b"1",
        b"1\r",
        b"1\r\n",
        b"9\r\nabc",
        b"9\r\nabc\r\n",
        b"9\r\nabcdefghi",
        b"9\r\nabcdefghi\r",
        b"1;x=y\r\n",
    ],
)
def test_within_a_chunk_nothing_is_a_chunk(begun: bytes) -> None:
    subject = between_chunks()
    subject.feed(begun)
    assert not subject.lone_chunk(b"1\r\nx\r\n")


@pytest.mark.parametrize("begun", [b"0\r\n", b"0\r\nX-Sum: 1\r\n", b"0\r\nX-"])
def test_a_trailer_is_no_chunk(begun: bytes) -> None:
    subject = between_chunks()
    subject.feed(begun)
    assert not subject.lone_chunk(b"5\r\nX: 12\r\n")
    with pytest.raises(BadReply):
        subject.feed(b"5\r\nX: 12\r\n")


@pytest.mark.parametrize("framing", [b"Content-Length: 12\r\n", b""], ids=["length", "end of connection"])
def test_a_body_without_chunks_may_look_like_one(framing: bytes) -> None:
    subject = ReplyReader(HeadTable())
    subject.expect(b"GET")
    subject.feed(HEAD + b"3\r\nhel\r\n0\r\n\r\n")
    subject.expect(b"GET")
    subject.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
    assert not subject.lone_chunk(b"1\r\nx\r\n")
    assert taken(subject, b"1\r\nx\r\n") == b"1\r\nx\r\n"


def test_after_its_end_nothing_belongs_to_the_answer() -> None:
    subject = between_chunks()
    subject.feed(b"0\r\n\r\n")
    assert subject.is_clean
    assert not subject.lone_chunk(b"1\r\nx\r\n")


forms = st.sampled_from([b"%x\r\n", b"%X\r\n", b"0%x\r\n", b"%x;x=y\r\n"])


@given(st.lists(st.tuples(forms, st.binary(min_size=1, max_size=300)), max_size=8), st.data())
def test_the_parser_would_have_said_the_same(chunks: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    ends = [0]
    wire = b""
    for form, piece in chunks:
        wire += form % len(piece) + piece + b"\r\n"
        ends.append(len(wire))
    wire += b"0\r\nX-Sum: 1\r\n\r\n"
    anywhere = st.integers(0, len(wire))
    cuts = data.draw(st.lists(st.one_of(st.sampled_from(ends), anywhere), max_size=12))
    subject = between_chunks()
    found = [taken(subject, wire[a:b]) for a, b in pairwise(sorted({0, *cuts, len(wire)}))]
    assert b"".join(found) == b"".join(piece for _, piece in chunks)
    assert subject.is_clean
    assert subject.trailers == ((b"X-Sum", b"1"),)
