"""KServe V1 by example."""

from __future__ import annotations

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, prepare, refusal, split, uncut

V1 = "kserve_v1"
ONE, TWO = b'{"instances":[[1.10,2]]}', b'{ "instances" : [[3,4.0] , [-0.0,6]] }'


def test_instances_are_joined_as_they_are_written() -> None:
    assert merged(V1, ONE, TWO) == b'{"instances":[[1.10,2],[3,4.0],[-0.0,6]]}'


def test_each_gets_its_predictions() -> None:
    assert split(V1, b'{"predictions": [1, {"a": 2}, [3]]}', ONE, TWO) == [
        b'{"predictions":[1]}',
        b'{"predictions":[{"a": 2},[3]]}',
    ]


def test_other_fields_must_be_equal_and_are_sent_once() -> None:
    one = b'{"signature_name":"s","instances":[1],"parameters":{"a":1}}'
    other = b'{"instances":[2],"parameters":{"a":1},"signature_name":"s"}'
    assert merged(V1, one, other) == b'{"instances":[1,2],"parameters":{"a":1},"signature_name":"s"}'
    assert key_of(V1, one) != key_of(V1, b'{"instances":[1],"parameters":{"a":2},"signature_name":"s"}')


def test_plain_fields_of_the_answer_are_copied() -> None:
    answer = b'{"model":"m","predictions":[1,2,3],"n":1.50}'
    assert split(V1, answer, ONE, TWO)[0] == b'{"model":"m","predictions":[1],"n":1.50}'


@pytest.mark.parametrize(
    "answer",
    [
        b'{"predictions":[1,2]}',
        b'{"predictions":[1,2,3,4]}',
        b'{"predictions":{"a":1}}',
        b'{"error":"x"}',
        b"[1,2,3]",
        b"",
        b'{"predictions":[1,2,3],"scores":[1,2,3]}',
        b'{"predictions":[1,2,3],"meta":{"a":1}}',
        b'{"predictions":[NaN,2]}',
    ],
)
def test_an_answer_that_is_not_one_part_for_each_is_not_cut(answer: bytes) -> None:
    assert uncut(V1, answer, ONE, TWO)


def test_an_answer_may_hold_bare_tokens() -> None:
    assert split(V1, b'{"predictions":[NaN,"NaN",-Infinity]}', ONE, TWO) == [
        b'{"predictions":[NaN]}',
        b'{"predictions":["NaN",-Infinity]}',
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not_json"),
        (b"[1]", "form"),
        (b'{"instances":1}', "form"),
        (b'{"inputs":[1]}', "form"),
        (b'{"instances":[1],"inputs":[1]}', "form"),
        (b'{"instances":[]}', "empty"),
        (b'{"instances":[],"a":1}', "empty"),
        (b'{"instances":[1],"instances":[2]}', "duplicate_keys"),
        (b'{"instances":[1],"\\u0069nstances":[2]}', "duplicate_keys"),
        (b'{"instances":[1],"a":1,"a":2}', "duplicate_keys"),
        (b'\xef\xbb\xbf{"instances":[1]}', "not_json"),
        (b'{"instances":["\xff"]}', "not_utf8"),
        (b'{"instances":[1],"a":"\xff"}', "not_utf8"),
        (b'{"instances":[1],"a":NaN}', "not_json"),
    ],
)
def test_what_is_not_understood_is_refused(body: bytes, why: str) -> None:
    assert refusal(V1, body) == why


def test_an_escaped_key_is_the_key() -> None:
    assert merged(V1, b'{"\\u0069nstances":[1]}', b'{"instances":[2]}') == b'{"instances":[1,2]}'


def test_the_key_word_inside_a_string_is_text() -> None:
    body = b'{"instances":["\\"instances\\":[", "instances"]}'
    assert prepare(V1, body)[0].items == 2
