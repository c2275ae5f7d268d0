"""ModelInfer: what is merged, what is refused, how answers are cut; the protobuf package reads what we write."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs.base import Prepared, Reader
from proxy.batching.codecs.open_inference_grpc import OpenInferenceGrpc
from proxy.errors import MergeRefused, SplitMismatch
from proxy.protobuf.framing import frame
from proxy.protobuf.wire import encode_field, key
from tests.support.inference_messages import Proto, inference, put

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers

HEADERS = ((b"content-type", b"application/grpc"),)
UNKNOWN = encode_field(key(99), b"from a later version")
CODEC = OpenInferenceGrpc()


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def request(
    rows: int = 1, *, first: float = 0.0, ident: str = "", is_raw: bool = True, **more: Proto
) -> Proto:
    """`rows` rows of two numbers each."""
    values = [first + index for index in range(2 * rows)]
    made = inference.ModelInferRequest(model_name="m", model_version="3", id=ident, **more)
    tensor = made.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    if is_raw:
        made.raw_input_contents.append(floats(*values))
    else:
        tensor.contents.fp32_contents.extend(values)
    return made


def prepare(message: Proto) -> Prepared:
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return CODEC.prepare(frame(body), HEADERS)


def merge(*messages: Proto) -> tuple[Proto, list[Prepared]]:
    members = [prepare(message) for message in messages]
    assert len({member.key for member in members}) == 1
    body, headers = CODEC.merge(members)
    assert headers == ()
    return inference.ModelInferRequest.FromString(body[5:]), members


def split(answer: Proto, members: list[Prepared]) -> list[Proto]:
    body = answer if isinstance(answer, bytes) else answer.SerializeToString()
    parts = CODEC.split((frame(body), ()), members)
    return [inference.ModelInferResponse.FromString(part[5:]) for part, _ in parts]


def response(rows: int, *, is_raw: bool = True, **more: Proto) -> Proto:
    made = inference.ModelInferResponse(model_name="m", model_version="3", id="ours", **more)
    tensor = made.outputs.add(name="y", datatype="INT32", shape=[rows, 1])
    tensor.parameters["content_type"].string_param = "np"
    numbers = [-index for index in range(rows)]
    if is_raw:
        made.raw_output_contents.append(struct.pack(f"<{rows}i", *numbers))
    else:
        tensor.contents.int_contents.extend(numbers)
    return made


@pytest.mark.parametrize("is_raw", [True, False])
def test_rows_are_joined_and_cut(*, is_raw: bool) -> None:
    merged, members = merge(
        request(2, ident="a", is_raw=is_raw),
        request(1, first=9.5, is_raw=is_raw),
        request(3, ident="c", is_raw=is_raw),
    )
    assert merged.inputs[0].shape == [6, 2]
    assert merged.id == ""
    values = (0, 1, 2, 3, 9.5, 10.5, 0, 1, 2, 3, 4, 5)
    if is_raw:
        assert list(merged.raw_input_contents) == [floats(*values)]
        assert not merged.inputs[0].HasField("contents")
    else:
        assert tuple(merged.inputs[0].contents.fp32_contents) == values
    parts = split(response(6, is_raw=is_raw), members)
    assert [part.id for part in parts] == ["a", "", "c"]
    assert [part.outputs[0].shape for part in parts] == [[2, 1], [1, 1], [3, 1]]
    if is_raw:
        assert parts[1].raw_output_contents[0] == struct.pack("<i", -2)
    else:
        assert list(parts[2].outputs[0].contents.int_contents) == [-3, -4, -5]
    assert {part.outputs[0].parameters["content_type"].string_param for part in parts} == {"np"}


def test_a_part_is_what_the_server_would_have_written() -> None:
    member = prepare(request(2, ident="mine"))
    alone = response(2)
    alone.id = "mine"
    alone.parameters["k"].int64_param = 1
    body = alone.SerializeToString(deterministic=True) + UNKNOWN
    assert CODEC.split((frame(body), ()), [member]) == [(frame(body), ())]


def test_parameters_outputs_and_unknown_fields_go_along() -> None:
    messages = []
    for names in (("a", "b"), ("b", "a")):
        made = request()
        for name in names:
            made.parameters[name].string_param = name
            made.inputs[0].parameters[name].bool_param = True
        made.outputs.add(name="y").parameters["classification"].int64_param = 2
        messages.append(made.SerializeToString() + UNKNOWN)
    merged, _ = merge(*messages)
    assert sorted(merged.parameters) == sorted(merged.inputs[0].parameters) == ["a", "b"]
    assert merged.outputs[0].parameters["classification"].int64_param == 2
    assert merged.SerializeToString().endswith(UNKNOWN)


def test_empty_contents_beside_raw_ones_are_nothing() -> None:
    made = request()
    made.inputs[0].contents.SetInParent()
    assert prepare(made).key == prepare(request()).key


def test_what_must_be_equal() -> None:
    others = [
        put(request(), model_name="other"),
        put(request(), model_version="other"),
        request(is_raw=False),
        request().SerializeToString() + UNKNOWN,
    ]
    for _ in range(5):
        others.append(request())
    put(others[4].inputs[0], name="z")
    put(others[5].inputs[0], datatype="INT32")
    others[6].parameters["priority"].int64_param = 1
    others[7].inputs[0].parameters["k"].int64_param = 1
    others[8].outputs.add(name="y")
    wide = request(2)
    put(wide.inputs[0], shape=[1, 4])
    keys = {prepare(other).key for other in (*others, wide, request())}
    assert len(keys) == len(others) + 2


def test_the_message_names_the_model() -> None:
    assert prepare(request()).model == "m"


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("empty", lambda made: made.ClearField("inputs")),
        ("batch_dimension", lambda made: put(made.inputs[0], shape=[])),
        ("batch_dimension", lambda made: put(made.inputs[0], shape=[1, 0])),
        ("batch_dimension", lambda made: made.inputs.add(name="z", datatype="FP32", shape=[2, 1])),
        ("shape", lambda made: put(made, raw_input_contents=[floats(0, 1) + b"x"])),
        ("form", lambda made: made.raw_input_contents.append(b"")),
        ("form", lambda made: made.inputs[0].contents.fp32_contents.append(1)),
        ("form", lambda made: made.ClearField("raw_input_contents")),
        ("stateful", lambda made: put(made.parameters["sequence_id"], int64_param=7)),
        (
            "shared_memory",
            lambda made: put(made.inputs[0].parameters["shared_memory_region"], string_param="r"),
        ),
        (
            "shared_memory",
            lambda made: put(made.outputs.add().parameters["shared_memory_region"], string_param="r"),
        ),
        ("reserved_parameters", lambda made: put(made.parameters["triton_final"], bool_param=True)),
    ],
)
def test_what_is_not_merged(why: str, change: Callable[[Proto], object]) -> None:
    made = request()
    change(made)
    with pytest.raises(MergeRefused) as caught:
        prepare(made)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (encode_field(key(1), b"other"), "form"),
        (encode_field(key(2), b"4"), "form"),
        (encode_field(key(3), b"a") * 2, "form"),
        (encode_field(key(4), encode_field(key(1), b"k")) * 2, "duplicate_keys"),
        (b"\x0a", "form"),
    ],
)
def test_what_reads_differently_elsewhere_is_not_merged(extra: bytes, why: str) -> None:
    with pytest.raises(MergeRefused) as caught:
        prepare(request().SerializeToString() + extra)
    assert caught.value.why == why


def test_a_name_that_is_no_text_is_not_merged() -> None:
    made = request().SerializeToString().replace(b"\x0a\x01m", b"\x0a\x01\xff")
    with pytest.raises(MergeRefused):
        prepare(made)


@pytest.mark.parametrize(
    ("body", "headers", "why"),
    [
        (b"\1" + frame(b"")[1:], HEADERS, "compressed"),
        (frame(b"") + b"x", HEADERS, "framing"),
        (frame(b""), ((b"content-type", b"application/grpc+json"),), "form"),
        (frame(b""), (), "form"),
    ],
)
def test_what_is_not_one_plain_message_is_not_merged(body: bytes, headers: Headers, why: str) -> None:
    with pytest.raises(MergeRefused) as caught:
        CODEC.prepare(body, headers)
    assert caught.value.why == why


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer.ClearField("outputs"),
        lambda answer: put(answer.outputs[0], shape=[2, 1]),
        lambda answer: put(answer.outputs[0], shape=[]),
        lambda answer: put(answer.outputs[0], shape=[3, -1]),
        lambda answer: put(answer, raw_output_contents=[b"12345678"]),
        lambda answer: answer.ClearField("raw_output_contents"),
        lambda answer: put(answer.outputs[0], datatype="COMPLEX"),
    ],
)
def test_an_answer_that_does_not_hold_every_row_is_a_mismatch(change: Callable[[Proto], object]) -> None:
    answer = response(3)
    change(answer)
    with pytest.raises(SplitMismatch):
        split(answer, [prepare(request(1)), prepare(request(2))])


@pytest.mark.parametrize("body", [frame(b"\x0a"), b"\1" + frame(b"")[1:]])
def test_what_is_no_plain_message_is_a_mismatch(body: bytes) -> None:
    with pytest.raises(SplitMismatch):
        CODEC.split((body, ()), [prepare(request(1)), prepare(request(2))])


@pytest.mark.parametrize("is_raw", [True, False])
def test_what_an_answer_says(*, is_raw: bool) -> None:
    assert isinstance(CODEC, Reader)
    one, other = response(2, is_raw=is_raw), response(2, is_raw=is_raw)
    other.id = "another"
    assert CODEC.read(frame(one.SerializeToString())) == CODEC.read(frame(other.SerializeToString()))
    other.model_version = "4"
    assert CODEC.read(frame(one.SerializeToString())) != CODEC.read(frame(other.SerializeToString()))


@pytest.mark.parametrize("body", [b"", frame(b"\x0a")])
def test_what_is_no_answer_says_itself(body: bytes) -> None:
    assert CODEC.read(body) == body
