"""Inference requests in JSON and bytes as messages."""

from __future__ import annotations

import json
import struct

import msgspec
import pytest

from proxy.bridging.infer import infer_request
from tests.support.inference_messages import Proto, inference

HEADER = b"Inference-Header-Content-Length"


def tensor(data: object = None, **more: object) -> dict[str, object]:
    made = {
        "name": "x",
        "shape": [2, 2],
        "datatype": "FP32",
        "data": [1, 2, 3, 4.5] if data is None else data,
    }
    return {name: value for name, value in (made | more).items() if value != "absent"}


def translated(*inputs: dict[str, object], blob: bytes = b"", **more: object) -> Proto:
    head = json.dumps({"inputs": inputs, **more}).encode()
    headers = ((HEADER, b"%d" % len(head)),) if blob else ()
    message, _ = infer_request("m", "3", head + blob, headers)
    return inference.ModelInferRequest.FromString(message)


@pytest.mark.parametrize("data", [[1, 2, 3, 4.5], [[1, 2], [3, 4.5]]])
def test_elements_become_bytes(data: object) -> None:
    found = translated(tensor(data, parameters={"k": 1}), id="é", parameters={"p": True})
    assert (found.model_name, found.model_version, found.id) == ("m", "3", "é")
    assert list(found.raw_input_contents) == [struct.pack("<4f", 1, 2, 3, 4.5)]
    (given,) = found.inputs
    assert (given.name, given.datatype, given.shape) == ("x", "FP32", [2, 2])
    assert given.parameters["k"].int64_param == 1
    assert found.parameters["p"].bool_param


def test_without_version_and_id() -> None:
    message, _ = infer_request("m", "", json.dumps({"inputs": [tensor()]}).encode(), ())
    found = inference.ModelInferRequest.FromString(message)
    assert (found.model_version, found.id) == ("", "")


def test_null_is_not_there() -> None:
    given = tensor(parameters=None)
    outputs = [{"name": "a", "parameters": {"k": None}}, {"name": "b", "parameters": None}]
    found = translated(given, id=None, parameters={"k": None}, outputs=outputs)
    assert found.id == ""
    assert not found.parameters
    assert not found.inputs[0].parameters
    assert [(output.name, len(output.parameters)) for output in found.outputs] == [("a", 0), ("b", 0)]
    assert not translated(given, parameters=None, outputs=None).outputs


def test_bytes_behind_the_json_stay_as_they_are() -> None:
    one = tensor("absent", shape=[1], datatype="FP16", parameters={"binary_data_size": 2})
    two = tensor("absent", name="t", shape=[1], datatype="BYTES", parameters={"binary_data_size": 5})
    found = translated(one, tensor(), two, blob=b"ab" + b"\1\0\0\0c")
    assert [bytes(raw) for raw in found.raw_input_contents] == [
        b"ab",
        struct.pack("<4f", 1, 2, 3, 4.5),
        b"\1\0\0\0c",
    ]
    assert not found.inputs[0].parameters


def test_outputs_are_asked_for_and_their_form_is_remembered() -> None:
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False, "classification": 2}}]
    body = json.dumps({"inputs": [tensor()], "outputs": outputs, "parameters": {"binary_data_output": True}})
    message, wishes = infer_request("m", "", body.encode(), ())
    found = inference.ModelInferRequest.FromString(message)
    assert [output.name for output in found.outputs] == ["a", "b"]
    assert list(found.outputs[1].parameters) == ["classification"]
    assert not found.parameters
    assert [wishes.is_binary(name) for name in ("a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize(
    "given",
    [
        tensor([1, 2, 3]),
        tensor(["1", "2", "3", "4"]),
        tensor(7),
        tensor("absent"),
        tensor([[1, 2], 3, 4]),
        tensor([[1], [2], [3], [4]]),
        tensor([[1, 2], [3, [4]]]),
        tensor([[1, 2], [3, 4]], shape=[]),
        tensor(shape=[]),
        tensor(shape=[-1, 4]),
        tensor(datatype="BF16"),
        tensor(datatype="COMPLEX"),
        tensor(parameters={"k": [1]}),
        tensor(parameters={"binary_data_size": 0}),
        tensor("absent", parameters={"binary_data_size": 4}),
        tensor("absent", parameters={"binary_data_size": "4"}),
        tensor("absent", shape=[0], parameters={"binary_data_size": -1}),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"input x|parameter k"):
        translated(given)


def test_a_size_that_is_not_that_of_the_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes for shape"):
        translated(tensor("absent", parameters={"binary_data_size": 4}), blob=b"1234")


def test_bytes_that_belong_to_no_input_are_refused() -> None:
    with pytest.raises(ValueError, match="no input"):
        translated(tensor(), blob=b"1")


@pytest.mark.parametrize("length", [b"x", b"0", b"999"])
def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    with pytest.raises(ValueError, match="Inference-Header"):
        infer_request("m", "", b"{}", ((HEADER, length),))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"inputs": 1}'])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        infer_request("m", "", body, ())
