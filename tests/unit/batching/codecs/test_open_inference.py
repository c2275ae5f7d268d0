"""Open Inference with JSON tensors, by example."""

from __future__ import annotations

import json

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, prepare, refusal, split, uncut

V2 = "open_inference"


def ask(
    data: object, shape: list[int], *, ident: str | None = None, datatype: str = "FP32", **more: object
) -> bytes:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    own = {} if ident is None else {"id": ident}
    return json.dumps({**own, "inputs": [tensor], **more}).encode()


def answer(data: str, shape: list[int], more: str = "") -> bytes:
    return f'{{"outputs":[{{"name":"y","shape":{shape},"datatype":"FP32","data":{data}}}]{more}}}'.encode()


ONE, TWO = ask([1.5, 2], [1, 2], ident="one"), ask([3, 4, 5, 6], [2, 2])


def test_rows_are_joined_and_the_id_stays_behind() -> None:
    assert merged(V2, ONE, TWO) == (
        b'{"inputs":[{"name":"x","shape":[3,2],"datatype":"FP32","data":[1.5, 2,3, 4, 5, 6]}]}'
    )


def test_fields_beside_the_inputs_are_sent_once() -> None:
    parameters, outputs = {"content_type": "np"}, [{"name": "y"}]
    one = ask([1], [1], ident="a", parameters=parameters, outputs=outputs)
    other = ask([2], [1], parameters=parameters, outputs=outputs)
    assert merged(V2, one, other) == (
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}],'
        b'"parameters":{"content_type": "np"},"outputs":[{"name": "y"}]}'
    )


def test_each_gets_its_rows_and_its_own_id() -> None:
    more = ',"model_name":"m","id":"backend\'s","parameters":{"a":1.0}'
    assert split(V2, answer("[1, 2.50, 3]", [3, 1], more), ONE, TWO) == [
        b'{"outputs":[{"name":"y","shape":[1,1],"datatype":"FP32","data":[1]}],"model_name":"m","id":"one",'
        b'"parameters":{"a":1.0}}',
        b'{"outputs":[{"name":"y","shape":[2,1],"datatype":"FP32","data":[ 2.50, 3]}],"model_name":"m",'
        b'"parameters":{"a":1.0}}',
    ]


ALONE = (
    b'{"model_name":"m","model_version":"v1","id":"one","parameters":{},"outputs":[{"name":"y","shape":[1,1],'
    b'"datatype":"FP32","parameters":{"content_type":"np"},"data":[7]},{"data":[[1,2]],"datatype":"FP32",'
    b'"name":"z","shape":[1,2]}]}'
)


def test_a_part_is_spelt_as_the_backend_spells_an_answer() -> None:
    whole = (
        ALONE.replace(b'"one"', b'"made up"')
        .replace(b"[1,1]", b"[3,1]")
        .replace(b"[7]", b"[7,8,9]")
        .replace(b"[[1,2]]", b"[[1,2],[3,4],[5,6]]")
        .replace(b'"shape":[1,2]', b'"shape":[3,2]')
    )
    assert split(V2, whole, ONE, TWO)[0] == ALONE


def test_an_id_that_the_backend_left_out_comes_first() -> None:
    assert split(V2, answer("[1,2,3]", [3]), ONE, TWO)[0].startswith(b'{"id":"one","outputs":')


@pytest.mark.parametrize(
    ("data", "shape", "parts"),
    [
        ("[[1,2],[3,4],[5,6]]", [3, 2], ["[1,2]", "[3,4],[5,6]"]),
        ("[1,2,3,4,5,6]", [3, 2], ["1,2", "3,4,5,6"]),
        ('["a,b","[","c"]', [3], ['"a,b"', '"[","c"']),
        ("[NaN,null,-Infinity]", [3], ["NaN", "null,-Infinity"]),
        ("[]", [3, 0], ["", ""]),
        ("[[],[],[]]", [3, 0], ["[]", "[],[]"]),
    ],
)
def test_outputs_of_every_form_are_cut_by_rows(data: str, shape: list[int], parts: list[str]) -> None:
    found = [json.loads(part)["outputs"][0] for part in split(V2, answer(data, shape), ONE, TWO)]
    assert [one["shape"][0] for one in found] == [1, 2]
    assert [str(one["data"]) for one in found] == [str(json.loads(f"[{part}]")) for part in parts]


@pytest.mark.parametrize(
    "reply",
    [
        answer("[1,2]", [2]),
        answer("[1,2,3,4]", [4]),
        answer("[1,2]", [3]),
        answer("1", [3]),
        answer("null", [3]),
        answer("[ ]", [3]),
        answer("[1,2,3]", []),
        answer("[1,2,3]", [3, -1]),
        answer("[[1],[2]]", [3, 1]),
        b'{"outputs":[]}',
        b'{"error":"x"}',
        b'{"outputs":[{"name":"y"}]}',
        b'{"outputs":[{"name":"y","shape":[3],"datatype":"FP32"}]}',
        answer("[1,2,3]", [3], ',"more":1'),
        answer("[1,2,3]", [3]).replace(b'"name"', b'"more":1,"name"'),
        answer("[1,2,3]", [3]).replace(b'"y"', b"7"),
        answer("[1,2,3]", [3]).replace(b'"data":[1,2,3]', b'"parameters":{"binary_data_size":3}'),
        b"",
    ],
)
def test_an_answer_without_exactly_the_rows_is_not_cut(reply: bytes) -> None:
    assert uncut(V2, reply, ONE, TWO)


def test_a_lone_empty_element_is_no_element() -> None:
    assert uncut(V2, answer("[]", [1]), ask([1], [1]))


def test_an_answer_with_binary_tensors_that_nobody_asked_for_is_not_cut() -> None:
    headers = ((b"Inference-Header-Content-Length", b"10"),)
    assert uncut(V2, answer("[1,2,3]", [3]), ONE, TWO, headers=headers)


@pytest.mark.parametrize(
    "other",
    [
        ask([[1, 2]], [1, 2]),
        ask([1, 2, 3], [1, 3]),
        ask([1, 2], [1, 2], datatype="FP64"),
        ask([1, 2], [1, 2], parameters={"a": 1}),
        ask([1, 2], [1, 2], outputs=[{"name": "y"}]),
        ask([1, 2], [1, 2]).replace(b'"x"', b'"z"'),
        ask([1, 2], [1, 2]).replace(b'"FP32"', b'"FP32","parameters":{"content_type":"np"}'),
    ],
    ids=["nested", "shape", "datatype", "parameters", "outputs", "name", "tensor parameters"],
)
def test_what_differs_beyond_the_rows_never_shares_a_call(other: bytes) -> None:
    assert key_of(V2, other) != key_of(V2, ask([1, 2], [1, 2]))


def test_the_id_and_the_number_of_rows_do_not_separate() -> None:
    assert key_of(V2, ONE) == key_of(V2, TWO)


def test_parameters_of_a_tensor_are_kept() -> None:
    body = ask([1], [1]).replace(b'"FP32"', b'"FP32","parameters":{"content_type":"np"}')
    assert b'"parameters":{"content_type":"np"},"data":[1,1]' in merged(V2, body, body)


@pytest.mark.parametrize(
    ("data", "shape", "datatype"),
    [([True, False], [2], "BOOL"), (["a", "b]"], [2], "BYTES"), ([["a"], ["b"]], [2, 1], "BYTES")],
)
def test_words_and_strings_are_data_too(data: list[object], shape: list[int], datatype: str) -> None:
    assert prepare(V2, ask(data, shape, datatype=datatype))[0].items == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not_json"),
        (b"[]", "form"),
        (b'{"inputs":[]}', "empty"),
        (b'{"inputs":[{"name":"x"}]}', "form"),
        (ask([1], [1], extra=1), "form"),
        (ask([1], [1]).replace(b'"inputs"', b'"id":5,"inputs"'), "form"),
        (ask([1], []), "batch_dimension"),
        (ask([], [0]), "batch_dimension"),
        (ask([], [1, 0]), "batch_dimension"),
        (ask([1], [1] * 17), "batch_dimension"),
        (ask([1], [-1]), "batch_dimension"),
        (ask(1, [1]), "shape"),
        (ask([1], [2]), "shape"),
        (ask([1, 2], [1]), "shape"),
        (ask([[1], []], [2, 1]), "shape"),
        (ask([], [1]), "shape"),
        (ask([1, None], [2]), "shape"),
        (ask([[1, 2], [3]], [2, 2]), "shape"),
        (ask([1], [10**12]), "shape"),
        (ask([1], [1], parameters={"sequence_id": 1}), "stateful"),
        (ask([1], [1], parameters={"triton_enable_empty_final_response": True}), "reserved_parameters"),
        (ask([1], [1], parameters={"a": "\u00e9"}), "escaped_parameters"),
        (ask([1], [1], outputs=[{"parameters": {"shared_memory_region": "r"}}]), "shared_memory"),
        (ask([1], [1], ident="a").replace(b'"id"', b'"id":"b","id"'), "duplicate_keys"),
        (ask([1], [1]).replace(b'"shape"', b'"name":"y","shape"'), "duplicate_keys"),
        (ask(["\xff"], [1], datatype="BYTES").replace(b"\\u00ff", b"\xff"), "not_utf8"),
    ],
)
def test_what_cannot_be_proved_is_refused(body: bytes, why: str) -> None:
    assert refusal(V2, body) == why


def test_inputs_must_have_equal_numbers_of_rows() -> None:
    one = {"name": "a", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    other = {"name": "b", "shape": [1], "datatype": "FP32", "data": [1]}
    assert refusal(V2, json.dumps({"inputs": [one, other]}).encode()) == "batch_dimension"
