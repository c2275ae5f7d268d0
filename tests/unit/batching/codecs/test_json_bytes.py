"""JSON as bytes: marks, skeletons, signatures, veils."""

from __future__ import annotations

import msgspec
import pytest

from proxy.batching.codecs.base import Prepared
from proxy.batching.codecs.json_bytes import (
    check_text,
    digest,
    has_empty,
    pieces,
    quotes,
    rows_signature,
    shape_of,
    skeleton,
    split_text,
    unveil,
    veil,
)
from proxy.errors import MergeRefused, SplitMismatch

_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def signature(text: bytes) -> tuple[str, bytes | str]:
    rows = _rows(text)
    return rows_signature(rows, b",".join(rows))


def refused(text: bytes) -> str:
    with pytest.raises(MergeRefused) as refusal:
        signature(text)
    return refusal.value.why


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"[1,2]", 0), (b'{"a":"b"}', 4), (rb'"\""', 2), (rb'"\\"', 2), (rb'"\\\""', 2), (rb'"\u0022"', 2)],
)
def test_only_marks_that_delimit_are_counted(text: bytes, count: int) -> None:
    assert quotes(text) == count


def test_text_must_be_utf8() -> None:
    check_text(b'"a"')
    check_text('"é"'.encode())
    with pytest.raises(MergeRefused, match="not_utf8"):
        check_text(b'"\xff"')


def test_a_skeleton_keeps_structure_and_words() -> None:
    assert skeleton(b"[[1.5, -2e+3],\n[0,1]]") == b"[[,],[,]]"
    assert skeleton(b"[true,null]") == b"[tru,null]"


@pytest.mark.parametrize(
    ("text", "is_empty"), [(b"[[1],[]]", True), (b"[[1],[ \n]]", True), (b"[[1],[2]]", False)]
)
def test_empty_arrays_are_told_from_short_ones(text: bytes, is_empty: bool) -> None:
    assert has_empty(text, skeleton(text)) is is_empty


def test_long_skeletons_become_digests() -> None:
    assert digest(b"x" * 256) == b"x" * 256
    assert len(digest(b"x" * 257)) == 16
    assert digest(b"x" * 257) != digest(b"x" * 258)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[1]", b"[[1]]"),
        (b"[[1,2]]", b"[[1,2,3]]"),
        (b"[[[1,2],[3,4]]]", b"[[[1,2,3,4]]]"),
        (b"[1]", b"[1.0]"),
        (b"[1]", b"[1e0]"),
        (b"[1]", b'["1"]'),
        (b"[1]", b"[true]"),
        (b"[1]", b"[null]"),
        (b'[{"a":1}]', b'[{"b":1}]'),
        (b'[{"a":1}]', b'[{"a":1.5}]'),
        (b'[{"a":1,"b":2}]', b'[{"b":2,"a":1}]'),
        (b'[{"a":[1,2]}]', b'[{"a":[1,2,3]}]'),
        (b'[["a"]]', b'[["a","b"]]'),
        (b'[["a",1]]', b'[[1,"a"]]'),
    ],
)
def test_rows_of_different_shape_or_kind_differ(one: bytes, other: bytes) -> None:
    assert signature(one) != signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[[1,2]]", b"[[ 3 , 4 ],[5,6]]"),
        (b"[1.5]", b"[-2E9,0.1]"),
        (b'["a"]', b'["other", "\\n"]'),
        (b'[{"a":[1,2.5]}]', b'[{"a":[1.5,2]},{"a":[1.5,2.5]}]'),
        (b"[[true,false]]", b"[[false,true]]"),
        (b"[[1.5,2]]", b"[[1,2],[3,4.5]]"),
    ],
)
def test_rows_of_equal_shape_and_kind_agree(one: bytes, other: bytes) -> None:
    assert signature(one) == signature(other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[[1],[1,2]]", "ragged_rows"),
        (b'["a",{"b":1}]', "ragged_rows"),
        (b"[1,null]", "ragged_rows"),
        (b"[[]]", "empty_rows"),
        (b"[[1],[ ]]", "empty_rows"),
        (b"[1234567890123456789]", "large_integers"),
        (b'[{"a":1234567890123456789}]', "large_integers"),
        (b'[{"a":-1000000000000000000}]', "large_integers"),
        (b'[{"a":1e400}]', "not_json"),
        (b'["",' + b"[" * 40 + b"]" * 40 + b"]", "too_deep"),
    ],
)
def test_rows_that_could_change_their_neighbours_are_refused(text: bytes, why: str) -> None:
    assert refused(text) == why


def test_eighteen_digits_are_not_too_many() -> None:
    assert signature(b"[999999999999999999]") == ("i", b"")


def test_shapes_are_of_json_values_only() -> None:
    with pytest.raises(KeyError):
        shape_of(object())


def test_bare_tokens_outside_strings_are_veiled() -> None:
    text = rb'{"a":[NaN, -Infinity,Infinity],"NaN":"-Infinity \" NaN"}'
    veiled = veil(text)
    assert msgspec.json.decode(veiled)["NaN"] == '-Infinity " NaN'
    assert unveil(veiled) == text


@pytest.mark.parametrize("text", [b"[1]", b'["NaN"]', rb'["\u0000bare NaN"]'])
def test_what_needs_no_veil_or_wears_one_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"veil|NaN"):
        veil(text)


def members(*items: int) -> list[Prepared]:
    return [Prepared(None, count, (b"",)) for count in items]


def test_pieces_are_joined_by_member() -> None:
    assert pieces([b"a", b"b"], members(1, 1)) == [b"a", b"b"]
    assert pieces([b"a", b"b", b"c"], members(2, 1)) == [b"a,b", b"c"]
    assert pieces([b"a", b"b", b"c", b"d"], members(1, 1), 2) == [b"a,b", b"c,d"]
    assert pieces([], members(1, 1), 0) == [b"", b""]


def test_an_answer_that_is_no_json_even_behind_a_veil_is_a_mismatch() -> None:
    def cut(text: bytes, _: object) -> list[bytes]:
        return [bytes(row) for row in _rows(text)]

    assert split_text(cut, b"[NaN,1]", members(1, 1)) == [b"NaN", b"1"]
    for text in (b"[NaN,", b"[1,", b""):
        with pytest.raises(SplitMismatch):
            split_text(cut, text, members(1, 1))
