"""A request cut into items and put together again is the request; answers likewise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs.kserve_v1 import KServeV1
from proxy.batching.codecs.open_inference_rest import OpenInference
from proxy.errors import SplitMismatch

V1, V2 = KServeV1(), OpenInference()
FLOATS = st.sampled_from(["0.5", "1e3", "-2.50", "1.0"])


def rows_of(width: int, count: int) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=count, max_size=count)


@st.composite
def v1_bodies(draw: st.DrawFn) -> tuple[bytes, int]:
    count = draw(st.integers(1, 5))
    rows = draw(rows_of(2, count))
    text = ",".join(f"[{','.join(row)}]" for row in rows)
    return f'{{"instances":[{text}]}}'.encode(), count


@st.composite
def v2_bodies(draw: st.DrawFn, key: str = "inputs") -> tuple[bytes, int]:
    count = draw(st.integers(1, 5))
    tensors = []
    for name in ("a", "b")[: draw(st.integers(1, 2))]:
        width = draw(st.integers(1, 3))
        rows = [",".join(row) for row in draw(rows_of(width, count))]
        data = ",".join(f"[{row}]" for row in rows) if draw(st.booleans()) else ",".join(rows)
        tensors.append(f'{{"name":"{name}","shape":[{count},{width}],"datatype":"FP32","data":[{data}]}}')
    return f'{{"{key}":[{",".join(tensors)}]}}'.encode(), count


@given(v1_bodies())
def test_v1_requests(drawn: tuple[bytes, int]) -> None:
    body, count = drawn
    items = V1.cut(V1.prepare(body, ()))
    assert [item.items for item in items] == [1] * count
    assert V1.merge(items)[0] == body


@given(v2_bodies())
def test_v2_requests(drawn: tuple[bytes, int]) -> None:
    body, count = drawn
    items = V2.cut(V2.prepare(body, ()))
    assert [item.items for item in items] == [1] * count
    assert V2.merge(items)[0] == body


@given(v1_bodies())
def test_v1_answers(drawn: tuple[bytes, int]) -> None:
    body, count = drawn
    answer = b'{"predictions":' + body.removeprefix(b'{"instances":')
    items = V1.cut(V1.prepare(body, ()))
    parts = [part for part, _ in V1.split((answer, ()), items)]
    assert len(parts) == count
    assert V1.join(parts) == answer


@given(v2_bodies("outputs"))
def test_v2_answers(drawn: tuple[bytes, int]) -> None:
    answer, count = drawn
    request = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%b]}]}'
    items = V2.cut(V2.prepare(request % (count, b",".join([b"1.5"] * count)), ()))
    parts = [part for part, _ in V2.split((answer, ()), items)]
    assert V2.join(parts) == answer


def tensor_answer(data: str, **more: Any) -> bytes:  # noqa: ANN401  JSON
    output = {"name": "y", "shape": [1, 2], "datatype": "FP32"} | more
    text = msgspec.json.encode({"outputs": [output]}).decode()
    return text.replace("}]}", f',"data":{data}}}]}}').encode()


@pytest.mark.parametrize(
    "other",
    [
        tensor_answer("[[1.0,2.0]]"),
        tensor_answer("[1.0,2.0]", name="z"),
        tensor_answer("[1.0,2.0]", datatype="FP64"),
        tensor_answer("[1.0,2.0]", parameters={"a": 1}),
        tensor_answer("[1.0]", shape=[1, 1]),
        tensor_answer("[1.0,2.0,3.0,4.0]", shape=[2, 2]),
        b'{"outputs":[]}',
        b'{"model_version":"2",' + tensor_answer("[1.0,2.0]")[1:],
        b"nothing",
    ],
)
def test_v2_answers_of_different_form_are_not_joined(other: bytes) -> None:
    with pytest.raises(SplitMismatch):
        V2.join([tensor_answer("[1.0,2.0]"), other])


@pytest.mark.parametrize(
    "other", [b'{"predictions":[1,2]}', b'{"predictions":[]}', b'{"predictions":[1],"at":2}', b"[]", b"{}"]
)
def test_v1_answers_of_different_form_are_not_joined(other: bytes) -> None:
    with pytest.raises(SplitMismatch):
        V1.join([b'{"predictions":[1]}', other])


def test_tokens_that_json_does_not_know_survive_a_join() -> None:
    joined = V1.join([b'{"predictions":[NaN]}', b'{"predictions":[1.0]}', b'{"predictions":["NaN"]}'])
    assert joined == b'{"predictions":[NaN,1.0,"NaN"]}'
    flat = V2.join([tensor_answer("[NaN,-Infinity]"), tensor_answer("[1.0,2.0]")])
    assert flat.endswith(b'"data":[NaN,-Infinity,1.0,2.0]}]}')


def test_strings_are_cut_as_strings() -> None:
    body = b'{"inputs":[{"name":"s","shape":[2],"datatype":"BYTES","data":["a,b","c"]}]}'
    items = V2.cut(V2.prepare(body, ()))
    assert [item.payload for item in items] == [(b'"a,b"',), (b'"c"',)]
