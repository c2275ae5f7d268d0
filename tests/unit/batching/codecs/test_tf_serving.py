"""TensorFlow Serving by example."""

from __future__ import annotations

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, prepare, refusal, split, uncut

TFS = "tf_serving"


def test_rows_are_joined_and_cut() -> None:
    one, two = (
        b'{"signature_name":"s","instances":[{"a":1}]}',
        b'{"signature_name":"s","instances":[{"a":2},{"a":3}]}',
    )
    assert merged(TFS, one, two) == b'{"instances":[{"a":1},{"a":2},{"a":3}],"signature_name":"s"}'
    assert split(TFS, b'{"predictions":[1,2,NaN]}', one, two) == [
        b'{"predictions":[1]}',
        b'{"predictions":[2,NaN]}',
    ]


def test_one_column_is_joined_and_cut() -> None:
    one, two = b'{"inputs":[[1,2]]}', b'{"inputs":[[3,4],[5,6]]}'
    assert merged(TFS, one, two) == b'{"inputs":[[1,2],[3,4],[5,6]]}'
    assert split(TFS, b'{"outputs":[1.0,2,3]}', one, two) == [b'{"outputs":[1.0]}', b'{"outputs":[2,3]}']


def test_named_columns_are_joined_and_cut() -> None:
    one = b'{"inputs":{"a":[[1]],"b":[["x"]]},"signature_name":"s"}'
    two = b'{"signature_name":"s","inputs":{"a":[[2],[3]],"b":[["y"],["z"]]}}'
    assert (
        merged(TFS, one, two)
        == b'{"inputs":{"a":[[1],[2],[3]],"b":[["x"],["y"],["z"]]},"signature_name":"s"}'
    )
    answer = b'{"outputs":{"p":[1,NaN,3],"q":[[1],[2],[3]]},"version":"1"}'
    assert split(TFS, answer, one, two) == [
        b'{"outputs":{"p":[1],"q":[[1]]},"version":"1"}',
        b'{"outputs":{"p":[NaN,3],"q":[[2],[3]]},"version":"1"}',
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b'{"outputs":[1,2]}',
        b'{"outputs":{"p":[1,2]}}',
        b'{"outputs":{"p":[1,2,3],"q":[1]}}',
        b'{"outputs":{"p":1}}',
        b'{"outputs":{}}',
        b'{"outputs":7}',
        b'{"predictions":[1,2,3]}',
        b'{"outputs":[1,2,3],"more":[1]}',
    ],
)
def test_columns_of_other_length_are_not_cut(answer: bytes) -> None:
    assert uncut(TFS, answer, b'{"inputs":[[1,2]]}', b'{"inputs":[[3,4],[5,6]]}')


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"inputs":[1],"instances":[1]}', "form"),
        (b'{"a":1}', "form"),
        (b"[1]", "form"),
        (b'{"inputs":"text"}', "form"),
        (b'{"inputs":[]}', "empty"),
        (b'{"inputs":{}}', "empty"),
        (b'{"inputs":{"a":5}}', "form"),
        (b'{"inputs":{"a":[1],"b":[1,2]}}', "batch_dimension"),
        (b'{"inputs":{"a":[[1,2]],"temperature":[0.5]}}', "batch_dimension"),
        (b'{"inputs":{"a":[1],"a":[2]}}', "duplicate_keys"),
        (b'{"inputs":[1],"inputs":[2]}', "duplicate_keys"),
        (b'{"inputs":[[1],[1,2]]}', "ragged_rows"),
        (b'{"inputs":[NaN]}', "not_json"),
        (b'{"instances":[[1],[1,2]]}', "ragged_rows"),
    ],
)
def test_what_cannot_be_proved_is_refused(body: bytes, why: str) -> None:
    assert refusal(TFS, body) == why


def test_rows_and_columns_never_share_a_call() -> None:
    keys = {
        key_of(TFS, body)
        for body in (
            b'{"instances":[1]}',
            b'{"inputs":[1]}',
            b'{"inputs":{"a":[1]}}',
            b'{"inputs":{"b":[1]}}',
        )
    }
    assert len(keys) == 4


def test_base64_values_are_values() -> None:
    body = b'{"inputs":{"image":[{"b64":"aGk="}],"size":[7]}}'
    assert prepare(TFS, body)[0].items == 1


def test_examples_are_joined_under_equal_context() -> None:
    one, two = b'{"context":{"c":1},"examples":[{"x":1.5}]}', b'{"context":{"c":1},"examples":[{"x":2.5}]}'
    examples = "tf_serving_examples"
    assert merged(examples, one, two) == b'{"examples":[{"x":1.5},{"x":2.5}],"context":{"c":1}}'
    for name in (b"results", b"result"):
        answer = b'{"%b":[[["a",0.5]],[["b",0.25]]]}' % name
        assert split(examples, answer, one, two)[1] == b'{"%b":[[["b",0.25]]]}' % name
