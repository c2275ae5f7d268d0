"""MLflow's four forms by example."""

from __future__ import annotations

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, refusal, split, uncut


def table(data: str, more: str = "", columns: str = '["a","b"]') -> bytes:
    return f'{{"dataframe_split":{{"columns":{columns},"data":{data}{more}}}}}'.encode()


def records(text: str) -> bytes:
    return f'{{"dataframe_records":{text}}}'.encode()


def test_tables_are_joined_under_equal_columns() -> None:
    one, two = table("[[1, 2.50]]", ',"index":[0]'), table("[[3,4.5],[5,6.5]]")
    assert merged("mlflow", one, two) == table("[[1, 2.50],[3,4.5],[5,6.5]]").replace(
        b'"columns":["a","b"],', b'"columns":["a","b"],'
    )
    assert split("mlflow", b'{"predictions": [1, 2.0, 3]}', one, two) == [
        b'{"predictions":[1]}',
        b'{"predictions":[2.0,3]}',
    ]


def test_a_table_without_columns_is_joined() -> None:
    body = b'{"dataframe_split":{"data":[[1]]},"params":{"k":1}}'
    assert merged("mlflow", body, body) == b'{"dataframe_split":{"data":[[1],[1]]},"params":{"k":1}}'


def test_records_are_joined() -> None:
    one, two = records('[{"a":1,"b":"x"}]'), records('[{"a":2,"b":"y"}]')
    assert merged("mlflow", one, two) == b'{"dataframe_records":[{"a":1,"b":"x"},{"a":2,"b":"y"}]}'


def test_instances_and_inputs_are_joined() -> None:
    assert merged("mlflow", b'{"instances":[[1]]}', b'{"instances":[[2]]}') == b'{"instances":[[1],[2]]}'
    one, two = b'{"inputs":{"a":[1]}}', b'{"inputs":{"a":[2]}}'
    assert merged("mlflow", one, two) == b'{"inputs":{"a":[1,2]}}'
    assert split("mlflow", b'{"predictions":[7,8]}', one, two) == [
        b'{"predictions":[7]}',
        b'{"predictions":[8]}',
    ]


def test_an_answer_that_is_no_list_is_not_cut() -> None:
    one, two = b'{"inputs":{"a":[1]}}', b'{"inputs":{"a":[2]}}'
    assert uncut("mlflow", b'{"predictions":{"out":[7,8]}}', one, two)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (table("[[1,2]]"), table("[[1,2.5]]")),
        (table("[[1,2]]"), table("[[1,null]]")),
        (table("[[1,2]]"), table('[[1,"2"]]')),
        (table("[[1,2]]"), table("[[1,2]]", columns='["b","a"]')),
        (table("[[1,2]]"), table("[[1,2]]").replace(b"}}", b'},"params":{"k":1}}')),
        (records('[{"a":1,"b":1}]'), records('[{"b":1,"a":1}]')),
        (records('[{"a":1}]'), records('[{"a":1.5}]')),
        (records('[{"a":1}]'), b'{"instances":[{"a":1}]}'),
    ],
    ids=["fraction", "null", "text", "columns", "params", "key order", "record kind", "form"],
)
def test_what_would_change_a_neighbours_column_never_shares_a_call(one: bytes, other: bytes) -> None:
    assert key_of("mlflow", one) != key_of("mlflow", other)


def test_columns_that_have_one_type_alone_have_it_together() -> None:
    assert key_of("mlflow", table("[[1,2],[1.5,3]]")) == key_of("mlflow", table("[[2.5,7]]"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"a,b\n1,2\n", "not_json"),
        (b'{"messages":[]}', "form"),
        (b'{"instances":[1],"inputs":[1]}', "form"),
        (table("[]"), "empty"),
        (table("[[1,2],[3]]"), "ragged_rows"),
        (table('[{"a":1}]'), "ragged_rows"),
        (table("[1]"), "ragged_rows"),
        (table("[[1e400,1]]"), "not_json"),
        (table("[[1,2]]", ',"index":[7]'), "index"),
        (table("[[1,2]]", ',"data":[[3,4]]'), "duplicate_keys"),
        (table("[[1,2]]", ',"more":1'), "form"),
        (b'{"dataframe_split":[]}', "form"),
        (records("[]"), "empty"),
        (records("[{}]"), "ragged_rows"),
        (records("[1]"), "ragged_rows"),
        (records('[{"a":1},{"b":1}]'), "ragged_rows"),
        (records('[{"a":123456789012345678901}]'), "large_integers"),
        (records('{"a":{"0":1}}'), "form"),
    ],
)
def test_what_cannot_be_proved_is_refused(body: bytes, why: str) -> None:
    assert refusal("mlflow", body) == why
