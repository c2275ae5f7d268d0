"""Predict: what is merged, what is refused, how answers are cut; the protobuf package reads what we write."""

from __future__ import annotations

import struct

import pytest

from proxy.batching.codecs.base import Prepared, Reader
from proxy.batching.codecs.tf_serving_grpc import TfServingGrpc
from proxy.errors import MergeRefused, SplitMismatch
from proxy.protobuf.framing import frame
from proxy.protobuf.wire import encode_field, key
from tests.support.inference_messages import Proto, put, tensorflow

HEADERS = ((b"content-type", b"application/grpc"),)
CODEC = TfServingGrpc()
FLOAT, INT32, STRING, COMPLEX64, INT64, BOOL, RESOURCE = 1, 3, 7, 8, 9, 10, 20


def tensor(dtype: int, *shape: int, **elements: Proto) -> Proto:
    made = tensorflow.TensorProto(dtype=dtype, **elements)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def request(**inputs: Proto) -> Proto:
    made = tensorflow.PredictRequest(output_filter=["y"])
    made.model_spec.name, made.model_spec.signature_name = "m", "serving_default"
    made.model_spec.version.value = 3
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(value)
    return made


def content(rows: int, first: float = 0.0) -> Proto:
    values = [first + index for index in range(2 * rows)]
    return tensor(FLOAT, rows, 2, tensor_content=struct.pack(f"<{2 * rows}f", *values))


def prepare(message: Proto) -> Prepared:
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return CODEC.prepare(frame(body), HEADERS)


def merge(*messages: Proto) -> tuple[Proto, list[Prepared]]:
    members = [prepare(message) for message in messages]
    assert len({member.key for member in members}) == 1
    body, _ = CODEC.merge(members)
    return tensorflow.PredictRequest.FromString(body[5:]), members


def answer(**outputs: Proto) -> Proto:
    made = tensorflow.PredictResponse()
    made.model_spec.name = "m"
    for name, value in outputs.items():
        made.outputs[name].CopyFrom(value)
    return made


def split(message: Proto, members: list[Prepared]) -> list[Proto]:
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return [
        tensorflow.PredictResponse.FromString(part[5:]) for part, _ in CODEC.split((frame(body), ()), members)
    ]


def sizes(message: Proto) -> list[int]:
    return [dim.size for dim in message.tensor_shape.dim]


def test_content_is_joined_and_cut() -> None:
    merged, members = merge(request(x=content(2)), request(x=content(1, 9.0)))
    assert sizes(merged.inputs["x"]) == [3, 2]
    assert merged.inputs["x"].tensor_content == struct.pack("<6f", 0, 1, 2, 3, 9, 10)
    assert (merged.model_spec.name, merged.model_spec.version.value, list(merged.output_filter)) == (
        "m",
        3,
        ["y"],
    )
    parts = split(answer(y=content(3), z=tensor(INT64, 3, int64_val=[1, -2, 3])), members)
    assert [sizes(part.outputs["y"]) for part in parts] == [[2, 2], [1, 2]]
    assert parts[1].outputs["y"].tensor_content == struct.pack("<2f", 4, 5)
    assert [list(part.outputs["z"].int64_val) for part in parts] == [[1, -2], [3]]
    assert {part.model_spec.name for part in parts} == {"m"}


@pytest.mark.parametrize(
    ("dtype", "field", "first", "second"),
    [
        (FLOAT, "float_val", [1.5, 2.5], [3.5, 4.5]),
        (2, "double_val", [0.1, 0.2], [0.3, 0.4]),
        (INT32, "int_val", [-1, 300], [0, 1]),
        (STRING, "string_val", [b"", b"ab"], [b"c", b"\xff"]),
        (INT64, "int64_val", [-1, 1], [1 << 40, 0]),
        (BOOL, "bool_val", [True, False], [False, True]),
        (19, "half_val", [15360, 1], [2, 3]),
        (22, "uint32_val", [1, 1 << 31], [0, 5]),
        (23, "uint64_val", [1 << 63, 1], [0, 5]),
    ],
)
def test_values_are_joined_and_cut(dtype: int, field: str, first: list[Proto], second: list[Proto]) -> None:
    one, other = (request(x=tensor(dtype, 1, 2, **{field: values})) for values in (first, second))
    merged, members = merge(one, other)
    assert list(getattr(merged.inputs["x"], field)) == first + second
    parts = split(answer(y=merged.inputs["x"]), members)
    assert [list(getattr(part.outputs["y"], field)) for part in parts] == [first, second]


def test_complex_elements_have_two_values() -> None:
    one = request(x=tensor(COMPLEX64, 1, 2, scomplex_val=[1, 2, 3, 4]))
    merged, members = merge(one, request(x=tensor(COMPLEX64, 1, 2, scomplex_val=[5, 6])))
    assert list(merged.inputs["x"].scomplex_val) == [1, 2, 3, 4, 5, 6, 5, 6]
    assert list(split(answer(y=merged.inputs["x"]), members)[0].outputs["y"].scomplex_val) == [1, 2, 3, 4]


def test_shortened_values_are_written_out() -> None:
    merged, members = merge(
        request(x=tensor(FLOAT, 2, 2, float_val=[1])), request(x=tensor(FLOAT, 1, 2, float_val=[7, 8]))
    )
    assert list(merged.inputs["x"].float_val) == [1, 1, 1, 1, 7, 8]
    parts = split(answer(y=tensor(STRING, 3, string_val=[b"a", b"bc"])), members)
    assert [list(part.outputs["y"].string_val) for part in parts] == [[b"a", b"bc"], [b"bc"]]


def test_inputs_come_in_any_order() -> None:
    head = request().SerializeToString()
    entries = [
        encode_field(
            key(2), encode_field(key(1), name) + encode_field(key(2), content(1).SerializeToString())
        )
        for name in (b"a", b"b")
    ]
    one, other = prepare(head + entries[0] + entries[1]), prepare(head + entries[1] + entries[0])
    assert one.key == other.key


def test_what_must_be_equal() -> None:
    others = []
    for change in ("name", "signature_name", "version_label"):
        made = request(x=content(1))
        setattr(made.model_spec, change, "other")
        others.append(made)
    made = request(x=content(1))
    made.output_filter.append("z")
    others.append(made)
    made = request(x=content(1))
    made.client_id = b"me"
    others += [
        made,
        request(z=content(1)),
        request(x=tensor(FLOAT, 1, 1, float_val=[1])),
        request(x=tensor(FLOAT, 1, 2, float_val=[1])),
        request(x=tensor(INT32, 1, 2, int_val=[1, 2])),
    ]
    assert len({prepare(other).key for other in (*others, request(x=content(1)))}) == len(others) + 1


def test_the_message_names_the_model() -> None:
    assert prepare(request(x=content(1))).model == "m"


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("empty", request()),
        ("stateful", put(request(x=content(1)), predict_streamed_options=b"\x08\x01")),
        ("batch_dimension", request(x=tensor(FLOAT, tensor_content=b"1234"))),
        ("batch_dimension", request(x=content(1), z=content(2))),
        ("form", request(x=tensor(FLOAT, 1, 2, tensor_content=b"1234"))),
        ("form", request(x=put(content(1), float_val=[1]))),
        ("form", request(x=tensor(FLOAT, 1, 2))),
        ("form", request(x=tensor(FLOAT, 1, 2, float_val=[1, 2, 3]))),
        ("form", request(x=tensor(COMPLEX64, 1, 2, scomplex_val=[1, 2, 3]))),
        ("form", request(x=tensor(STRING, 1, tensor_content=b"1"))),
        ("form", request(x=tensor(RESOURCE, 1))),
        ("form", request(x=tensorflow.TensorProto(dtype=FLOAT, tensor_shape={"unknown_rank": True}))),
        (
            "form",
            request(x=tensorflow.TensorProto(dtype=FLOAT, tensor_shape={"dim": [{"size": 1, "name": "n"}]})),
        ),
        (
            "form",
            request(x=content(1)).SerializeToString() + encode_field(key(2), encode_field(key(1), b"x")),
        ),
        ("form", b"\x0a"),
    ],
)
def test_what_is_not_merged(why: str, message: Proto) -> None:
    with pytest.raises(MergeRefused) as caught:
        prepare(message)
    assert caught.value.why == why


@pytest.mark.parametrize(
    "message",
    [
        answer(),
        answer(y=content(2)),
        answer(y=tensor(FLOAT, float_val=[1])),
        answer(y=tensor(FLOAT, 3, -1, float_val=[1])),
        answer(y=tensor(FLOAT, 3)),
        b"\x0a",
    ],
)
def test_an_answer_that_does_not_hold_every_row_is_a_mismatch(message: Proto) -> None:
    with pytest.raises(SplitMismatch):
        split(message, [prepare(request(x=content(1))), prepare(request(x=content(2)))])


def test_what_an_answer_says() -> None:
    assert isinstance(CODEC, Reader)
    values = answer(
        y=content(1), z=tensor(INT32, 1, tensor_content=b"1234"), s=tensor(STRING, 1, string_val=[b"a"])
    )
    body = frame(values.SerializeToString())
    said: Proto = CODEC.read(body)
    assert said["outputs"][b"y"][3] == [0.0, 1.0]
    assert said["outputs"][b"z"][3] == b"1234"
    assert said["outputs"][b"s"][3] == [b"a"]
    assert CODEC.read(b"no frame") == b"no frame"
