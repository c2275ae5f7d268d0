"""ModelInfer and Predict: what is merged and cut again is what was sent, as the protobuf package reads it.

The server of these tests answers with the tensors that it was asked about. So each part must hold its member's own
rows, unchanged, whatever the datatype, the form, the shape of a row and the fields around it.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs import CODECS
from proxy.errors import MergeRefused, SplitMismatch
from proxy.protobuf.datatypes import WIDTHS
from proxy.protobuf.framing import frame
from proxy.protobuf.message import Message, peek, replaced
from proxy.protobuf.wire import Malformed, encode_field, key
from tests.support.inference_messages import Proto, inference, tensorflow

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Codec, Prepared

HEADERS = ((b"content-type", b"application/grpc"),)
TYPED = {
    "BOOL": ("bool_contents", st.booleans()),
    "INT8": ("int_contents", st.integers(-(1 << 7), (1 << 7) - 1)),
    "INT32": ("int_contents", st.integers(-(1 << 31), (1 << 31) - 1)),
    "INT64": ("int64_contents", st.integers(-(1 << 63), (1 << 63) - 1)),
    "UINT16": ("uint_contents", st.integers(0, (1 << 16) - 1)),
    "UINT64": ("uint64_contents", st.integers(0, (1 << 64) - 1)),
    "FP32": ("fp32_contents", st.floats(width=32, allow_nan=False)),
    "FP64": ("fp64_contents", st.floats(allow_nan=False)),
    "BYTES": ("bytes_contents", st.binary(max_size=200)),
}
VALUES = {  # of TensorFlow, with the number of its type
    1: ("float_val", st.floats(width=32, allow_nan=False)),
    2: ("double_val", st.floats(allow_nan=False)),
    3: ("int_val", st.integers(-(1 << 31), (1 << 31) - 1)),
    7: ("string_val", st.binary(max_size=200)),
    9: ("int64_val", st.integers(-(1 << 63), (1 << 63) - 1)),
    10: ("bool_val", st.booleans()),
    23: ("uint64_val", st.integers(0, (1 << 64) - 1)),
}
UNKNOWN = st.sampled_from((b"", encode_field(key(99), b"new"), b"\xf8\x06\x07"))
names = st.text(max_size=5)


@st.composite
def inputs(draw: st.DrawFn) -> list[tuple[str, str, bool, tuple[int, ...]]]:
    """Name, datatype, form and row shape of each input of a batch's members; all have one form."""
    is_raw = draw(st.booleans())
    datatypes = st.sampled_from((*WIDTHS, "BYTES") if is_raw else tuple(TYPED))
    row = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    kinds = draw(st.lists(st.tuples(names, datatypes, row), min_size=1, max_size=3))
    return [(name, datatype, is_raw, shape) for name, datatype, shape in kinds]


def add_input(
    draw: st.DrawFn, request: Proto, kind: tuple[str, str, bool, tuple[int, ...]], rows: int
) -> None:
    name, datatype, is_raw, row = kind
    tensor = request.inputs.add(name=name, datatype=datatype, shape=(rows, *row))
    count = rows
    for size in row:
        count *= size
    if not is_raw:
        field, values = TYPED[datatype]
        getattr(tensor.contents, field).extend(draw(st.lists(values, min_size=count, max_size=count)))
    elif datatype == "BYTES":
        elements = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
        request.raw_input_contents.append(
            b"".join([struct.pack("<I", len(part)) + part for part in elements])
        )
    else:
        size = count * WIDTHS[datatype]
        request.raw_input_contents.append(draw(st.binary(min_size=size, max_size=size)))


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[Proto, bytes]]:
    """Members of one batch, each with the unknown fields that all share."""
    kinds, extra = draw(inputs()), draw(UNKNOWN)
    parameters = draw(st.dictionaries(st.sampled_from("abc"), st.integers(0, 1 << 40), max_size=3))
    members = []
    for _ in range(draw(st.integers(2, 5))):
        request = inference.ModelInferRequest(model_name="m", id=draw(names))
        for name in draw(st.permutations(list(parameters))):
            request.parameters[name].int64_param = parameters[name]
        rows = draw(st.integers(1, 4))
        for kind in kinds:
            add_input(draw, request, kind, rows)
        members.append((request, extra))
    return members


def merged(codec: Codec, bodies: list[bytes]) -> tuple[bytes, list[Prepared]]:
    members = [codec.prepare(frame(body), HEADERS) for body in bodies]
    assert len({member.key for member in members}) == 1
    return codec.merge(members)[0][5:], members


@given(requests())
def test_model_infer(given_members: list[tuple[Proto, bytes]]) -> None:
    codec = CODECS["open_inference_grpc"]
    together, members = merged(
        codec, [request.SerializeToString() + extra for request, extra in given_members]
    )
    asked = inference.ModelInferRequest.FromString(together)
    assert together.endswith(given_members[0][1])
    answer = inference.ModelInferResponse(model_name="m", id="theirs", parameters=asked.parameters)
    answer.outputs.extend(asked.inputs)
    answer.raw_output_contents.extend(asked.raw_input_contents)
    parts = codec.split((frame(answer.SerializeToString()), ()), members)
    for (request, _), (part, _) in zip(given_members, parts, strict=True):
        found = inference.ModelInferResponse.FromString(part[5:])
        assert found.outputs == request.inputs
        assert found.raw_output_contents == request.raw_input_contents
        assert (found.id, found.parameters) == (request.id, request.parameters)


@st.composite
def predictions(draw: st.DrawFn) -> list[Proto]:
    """Members of one batch; values may be shortened, as TensorFlow allows."""
    kinds = draw(
        st.dictionaries(
            names, st.tuples(st.sampled_from(tuple(VALUES)), st.integers(1, 3)), min_size=1, max_size=3
        )
    )
    members = []
    for _ in range(draw(st.integers(2, 4))):
        request = tensorflow.PredictRequest(model_spec={"name": "m"})
        rows = draw(st.integers(1, 4))
        for name, (dtype, width) in kinds.items():
            field, values = VALUES[dtype]
            tensor = request.inputs[name]
            tensor.dtype = dtype
            for size in (rows, width):
                tensor.tensor_shape.dim.add(size=size)
            getattr(tensor, field).extend(draw(st.lists(values, min_size=1, max_size=rows * width)))
        members.append(request)
    return members


def written_out(tensor: Proto) -> list[object]:
    """Every element of a tensor, the last value repeated."""
    values: list[object] = list(getattr(tensor, VALUES[tensor.dtype][0]))
    places = int(tensor.tensor_shape.dim[0].size * tensor.tensor_shape.dim[1].size)
    return values + values[-1:] * (places - len(values))


@given(predictions())
def test_predict(given_members: list[Proto]) -> None:
    codec = CODECS["tf_serving_grpc"]
    together, members = merged(codec, [request.SerializeToString() for request in given_members])
    asked = tensorflow.PredictRequest.FromString(together)
    answer = tensorflow.PredictResponse(outputs=asked.inputs, model_spec=asked.model_spec)
    parts = codec.split((frame(answer.SerializeToString()), ()), members)
    for request, (part, _) in zip(given_members, parts, strict=True):
        found = tensorflow.PredictResponse.FromString(part[5:])
        assert found.model_spec.name == "m"
        assert {name: written_out(tensor) for name, tensor in found.outputs.items()} == {
            name: written_out(tensor) for name, tensor in request.inputs.items()
        }
        assert all(
            output.tensor_shape == request.inputs[name].tensor_shape for name, output in found.outputs.items()
        )


@given(st.binary(max_size=60), st.sampled_from(("open_inference_grpc", "tf_serving_grpc")))
def test_no_bytes_are_a_surprise(data: bytes, name: str) -> None:
    """Whatever is sent is understood or refused; nothing else happens."""
    codec = CODECS[name]
    try:
        prepared = codec.prepare(frame(data), HEADERS)
    except MergeRefused:
        prepared = None
    with contextlib.suppress(SplitMismatch):
        codec.split((frame(data), ()), [prepared] if prepared is not None else [])
    peek(data, 0, (1, 1))
    with contextlib.suppress(Malformed):
        changed = replaced(data, (1,), b"other")
        assert Message(changed, 0, len(changed), frozenset((key(1),))).value(key(1)) == b"other"
