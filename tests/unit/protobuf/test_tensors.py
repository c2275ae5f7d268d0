"""Tensors inside messages."""

from __future__ import annotations

import pytest

from proxy.protobuf import inference as pb
from proxy.protobuf.message import Message
from proxy.protobuf.tensors import Tensor, raw_outputs, read_tensor, tensor_values, typed_payload
from proxy.protobuf.wire import Malformed, encode_field, encode_varint, key
from tests.support.inference_messages import Proto, inference


def tensor(datatype: str = "FP32", shape: tuple[int, ...] = (2, 3), **contents: Proto) -> Proto:
    made = inference.InferTensor(name="x", datatype=datatype, shape=shape)
    if contents:
        made.contents.MergeFrom(inference.InferTensorContents(**contents))
    return made


def read(message: Proto) -> tuple[bytes, Tensor]:
    data = message.SerializeToString()
    return data, read_tensor(data, 0, len(data))


def test_a_tensor_is_written_as_it_was_read() -> None:
    message = tensor(fp32_contents=[1, 2, 3, 4, 5, 6])
    message.parameters["p"].bool_param = True
    data, found = read(message)
    assert (found.name, found.datatype, found.shape, found.stride, found.is_typed) == (
        "x",
        "FP32",
        (2, 3),
        3,
        True,
    )
    assert found.contents is not None
    start, end = found.contents
    assert found.filled(2, data[start:end]) == data


def test_unknown_fields_are_kept() -> None:
    data = tensor().SerializeToString() + encode_field(key(99), b"new")
    found = read_tensor(data, 0, len(data))
    assert found.filled(2, b"") == data


def test_another_number_of_rows() -> None:
    _, found = read(tensor())
    assert inference.InferTensor.FromString(found.filled(300, b"")).shape == [300, 3]


def test_empty_contents_are_none_but_stay() -> None:
    data = tensor().SerializeToString() + encode_field(pb.TENSOR_CONTENTS, b"")
    found = read_tensor(data, 0, len(data))
    assert not found.is_typed
    assert found.filled(2, b"") == data


@pytest.mark.parametrize(
    "extra",
    [
        encode_varint(pb.TENSOR_SIZE) + b"\2",
        encode_field(pb.TENSOR_NAME, b"y"),
        encode_field(pb.TENSOR_DATATYPE, b"INT8"),
        encode_field(pb.TENSOR_SHAPE, b"\2"),
        encode_field(pb.TENSOR_CONTENTS, b"") * 2,
    ],
)
def test_what_reads_differently_elsewhere_is_refused(extra: bytes) -> None:
    data = tensor().SerializeToString() + extra
    with pytest.raises(Malformed):
        read_tensor(data, 0, len(data))


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-1, 1]),
        ("INT64", "int64_contents", [-1, 1 << 40]),
        ("UINT16", "uint_contents", [1, 65535]),
        ("UINT64", "uint64_contents", [1, 1 << 63]),
        ("FP64", "fp64_contents", [0.1, 0.2]),
        ("BYTES", "bytes_contents", [b"", b"x"]),
    ],
)
def test_typed_values(datatype: str, field: str, values: list[Proto]) -> None:
    data, found = read(tensor(datatype, (2,), **{field: values}))
    assert tensor_values(data, found, None) == values


@pytest.mark.parametrize(
    "message",
    [
        tensor(),
        tensor("FP16", bytes_contents=[b"12"] * 6),
        tensor(int_contents=[1] * 6),
        tensor(fp32_contents=[1] * 5),
        tensor(fp32_contents=[1] * 6, int_contents=[1]),
    ],
)
def test_contents_that_are_not_those_of_the_shape_are_refused(message: Proto) -> None:
    data, found = read(message)
    with pytest.raises(Malformed):
        typed_payload(data, found)


def test_raw_values() -> None:
    data, found = read(tensor("INT8", (2,)))
    assert tensor_values(data, found, b"\1\xff") == [1, -1]
    with pytest.raises(Malformed):
        tensor_values(data, found, b"\1")


def outputs(*tensors: Proto, raw: tuple[bytes, ...] = ()) -> tuple[Message, list[Tensor]]:
    data = inference.ModelInferResponse(outputs=tensors, raw_output_contents=raw).SerializeToString()
    message = Message(data, 0, len(data), pb.ANSWER)
    return message, [read_tensor(data, *place) for place in message.places(pb.TENSOR)]


def test_raw_contents_belong_to_outputs_in_order() -> None:
    assert raw_outputs(*outputs(tensor(), tensor(), raw=(b"a", b""))) == [b"a", b""]
    assert raw_outputs(*outputs(tensor(), tensor())) == [None, None]


@pytest.mark.parametrize(
    ("tensors", "raw"), [((tensor(), tensor()), (b"a",)), ((tensor(fp32_contents=[1]),), (b"a",))]
)
def test_raw_contents_that_belong_to_no_output_are_refused(
    tensors: tuple[Proto, ...], raw: tuple[bytes, ...]
) -> None:
    with pytest.raises(Malformed):
        raw_outputs(*outputs(*tensors, raw=raw))
