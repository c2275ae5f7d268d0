"""Heads of answers that were judged before: what a known one says of another, and what only the parser may say."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadReply
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.reply_reader import ReplyReader
from proxy.pooling.wire import Head

JUDGED = (
    b"HTTP/1.1 200 OK\r\nDate: Mon\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
    b"Keep-Alive: timeout=5\r\nX-Id:  a b \r\n\r\n"
)


def judged(block: bytes, table: HeadTable | None = None) -> Head:
    """What a reader finds in `block` and as many bytes as it announces."""
    reader = ReplyReader(HeadTable() if table is None else table)
    reader.expect(b"GET")
    length = re.search(rb"(?i)content-length:[ \t]*(\d+)", block)
    reader.feed(block + bytes(int(length[1]) if length else 0))
    assert reader.is_complete
    assert reader.head is not None
    return reader.head


FACTS = sorted(
    name
    for name, what in vars(Head).items()
    if inspect.ismemberdescriptor(what) or (inspect.isgetsetdescriptor(what) and not name.startswith("__"))
)
"""Every field of a head, interpreted or compiled."""


def facts(head: Head | None) -> tuple[object, ...]:
    """Everything that a head says."""
    assert head is not None
    return tuple(getattr(head, name) for name in FACTS)


def table_of(*blocks: bytes) -> HeadTable:
    """A table after answers with these heads."""
    table = HeadTable()
    for block in blocks:
        judged(block, table)
    return table


def another(value: object) -> object:
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value + b"!"
    return ((b"A", b"1"),) if isinstance(value, tuple) else 7


def test_a_varied_head_says_all_else_that_the_judged_one_says() -> None:
    head = Head(200, b"OK", ())
    for name in FACTS:
        setattr(head, name, another(getattr(head, name)))
    assert facts(head.varied(head.headers, head.length)) == facts(head)
    varied = head.varied((), 9)
    assert (varied.headers, varied.length) == ((), 9)


@pytest.mark.parametrize(
    "block",
    [
        JUDGED.replace(b"Mon", b"Tue, 24 Nov"),
        JUDGED.replace(b"a b ", b"\xe9t\xe9\tx"),
        JUDGED.replace(b" 2\r", b"31\r"),
        JUDGED.replace(b"Mon", b"Tue").replace(b" 2\r", b" \t00017\r").replace(b"  a b ", b"c"),
    ],
    ids=["a field", "a field with other characters", "the length", "all of it"],
)
def test_other_values_mean_what_the_parser_makes_of_them(block: bytes) -> None:
    table = table_of(JUDGED)
    found = table.find(block)
    assert facts(found) == facts(judged(block))
    assert table.find(block) is found


@pytest.mark.parametrize(
    "block",
    [
        JUDGED.replace(b"200 OK", b"200 Ok"),
        JUDGED.replace(b"200 OK", b"500 OK"),
        JUDGED.replace(b"Date:", b"Data:"),
        JUDGED.replace(b"Date:", b"date:"),
        JUDGED.replace(b"Date: Mon", b"Date Mon"),
        JUDGED.replace(b"Mon", b""),
        JUDGED.replace(b"Mon", b"M\x00n"),
        JUDGED.replace(b"Mon", b"M\nX: y"),
        JUDGED.replace(b"Mon", b"M\rX: y"),
        JUDGED.replace(b"Mon\r\n", b"Mon\r\nX: y\r\n"),
        JUDGED.replace(b"Date: Mon\r\n", b""),
        JUDGED.replace(b" 2\r", b"-2\r"),
        JUDGED.replace(b" 2\r", b" 2, 2\r"),
        JUDGED.replace(b" 2\r", b" " + b"1" * 19 + b"\r"),
        JUDGED.replace(b"keep-alive", b"close"),
        JUDGED.replace(b"X-Hop: 1", b"X-Hop: 2"),
        JUDGED.replace(b"timeout=5", b"timeout=6"),
        JUDGED.replace(b"Mon", b"x" * 2048),
        JUDGED.replace(b"Mon", b"Tue "),
    ],
    ids=repr,
)
def test_what_is_not_only_another_value_is_for_the_parser(block: bytes) -> None:
    assert block != JUDGED
    assert table_of(JUDGED).find(block) is None


def test_chunks_and_codings_are_not_values() -> None:
    table = table_of(JUDGED)
    assert table.find(JUDGED.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")) is None


def test_answers_of_several_kinds_are_known_at_the_same_time() -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nDate: Mon\r\nContent-Length: 0\r\n\r\n"
    table = table_of(JUDGED, missing)
    for block in (JUDGED, missing):
        later = block.replace(b"Mon", b"Tue")
        assert facts(table.find(later)) == facts(judged(later))


def test_what_is_only_found_alike_is_no_model_for_others() -> None:
    table = table_of(JUDGED)
    strange = JUDGED.replace(b"Mon", b"Transfer-Encoding: chunked")
    assert table.find(strange) is not None
    assert table.find(JUDGED.replace(b"Date: Mon", b"Transfer-Encoding: chunked")) is None


def test_kinds_are_bounded() -> None:
    table = table_of(*(b"HTTP/1.1 %d X\r\nD: 1\r\nContent-Length: 2\r\n\r\n" % (400 + k) for k in range(17)))
    assert table.find(b"HTTP/1.1 400 X\r\nD: 2\r\nContent-Length: 2\r\n\r\n") is None
    assert table.find(b"HTTP/1.1 416 X\r\nD: 2\r\nContent-Length: 2\r\n\r\n") is not None


@given(
    st.lists(
        st.tuples(st.sampled_from([b"Mon", b" 2\r", b"a b", b"timeout=5", b"OK"]), st.binary(max_size=6))
    )
)
def test_it_never_says_anything_but_what_the_parser_says(changes: list[tuple[bytes, bytes]]) -> None:
    block = JUDGED
    for old, new in changes:
        block = block.replace(old, new)
    found = table_of(JUDGED).find(block)
    if found is None:
        return
    reader = ReplyReader(HeadTable())
    reader.expect(b"GET")
    try:
        reader.feed(block)
    except BadReply:
        pytest.fail(f"the parser refuses {block!r}")
    assert facts(reader.head) == facts(found)
