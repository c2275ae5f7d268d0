"""Messages of the gRPC form as answers of the REST form."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from proxy.bridging import answers
from proxy.bridging.infer import Wishes
from tests.support.inference_messages import Proto, inference, put

if TYPE_CHECKING:
    from proxy.bridging.answers import Answer

JSON = ((b"content-type", b"application/json"),)
AS_JSON = Wishes({}, others=False)


def document(answer: Answer) -> object:
    assert answer.headers == JSON
    return json.loads(answer.body)


def response(
    datatype: str = "FP32", raw: bytes | None = struct.pack("<2f", 1.5, 2.0), **contents: Proto
) -> Proto:
    made = inference.ModelInferResponse(model_name="m")
    tensor = made.outputs.add(name="y", datatype=datatype, shape=[2, 1])
    if raw is not None:
        made.raw_output_contents.append(raw)
    else:
        put(tensor.contents, **contents)
    return made


def infer(message: Proto, wishes: Wishes = AS_JSON) -> Answer:
    return answers.inference(message.SerializeToString(), wishes)


def test_an_inference_answer() -> None:
    assert document(infer(response())) == {
        "model_name": "m",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 2.0]}],
    }


def test_everything_that_may_be_there() -> None:
    made = put(response(), model_version="3", id="é")
    made.parameters["p"].bool_param = False
    made.outputs[0].parameters["content_type"].string_param = "np"
    output = {
        "name": "y",
        "datatype": "FP32",
        "shape": [2, 1],
        "parameters": {"content_type": "np"},
        "data": [1.5, 2.0],
    }
    expected = {
        "model_name": "m",
        "model_version": "3",
        "id": "é",
        "parameters": {"p": False},
        "outputs": [output],
    }
    assert document(infer(made)) == expected


@pytest.mark.parametrize(
    ("datatype", "raw", "data"),
    [
        ("BOOL", b"\1\0", [True, False]),
        ("INT8", b"\1\xff", [1, -1]),
        ("BF16", b"\xc0\x3f\x00\x00", [1.5, 0.0]),
        ("FP32", struct.pack("<2f", float("nan"), float("inf")), [None, None]),
        ("BYTES", b"\1\0\0\0a\2\0\0\0\xc3\xa9", ["a", "é"]),
    ],
)
def test_elements_as_json(datatype: str, raw: bytes, data: list[object]) -> None:
    body = json.loads(infer(response(datatype, raw)).body)
    assert body["outputs"][0]["data"] == data


def test_typed_elements_as_json() -> None:
    body = json.loads(infer(response("INT64", None, int64_contents=[-1, 1 << 40])).body)
    assert body["outputs"][0]["data"] == [-1, 1 << 40]


@pytest.mark.parametrize(
    ("message", "blob"),
    [
        (response("BYTES", b"\1\0\0\0\xff\0\0\0\0"), b"\1\0\0\0\xff\0\0\0\0"),
        (response("BYTES", None, bytes_contents=[b"\xff", b""]), b"\1\0\0\0\xff\0\0\0\0"),
        (response("INT16", None, int_contents=[-1, 1]), b"\xff\xff\1\0"),
    ],
)
def test_elements_as_bytes(message: Proto, blob: bytes) -> None:
    answer = infer(message, Wishes({}, others=True))
    fields = dict(answer.headers)
    size = int(fields[b"Inference-Header-Content-Length"])
    assert fields[b"content-type"] == b"application/octet-stream"
    (output,) = json.loads(answer.body[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": len(blob)}
    assert "data" not in output
    assert answer.body[size:] == blob


def test_a_text_that_is_none_cannot_be_json() -> None:
    with pytest.raises(ValueError, match="binary_data"):
        infer(response("BYTES", b"\1\0\0\0\xff\0\0\0\0"))


def test_metadata() -> None:
    server = inference.ServerMetadataResponse(name="s", version="1", extensions=["a", "b"])
    assert document(answers.server_metadata(server.SerializeToString())) == {
        "name": "s",
        "version": "1",
        "extensions": ["a", "b"],
    }
    model = inference.ModelMetadataResponse(name="m", versions=["1"], platform="p")
    model.inputs.add(name="x", datatype="FP32", shape=[-1, 3]).parameters["k"].string_param = "v"
    model.outputs.add(name="y", datatype="INT64", shape=[-1])
    expected: dict[str, object] = {
        "name": "m",
        "versions": ["1"],
        "platform": "p",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "parameters": {"k": "v"}}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }
    assert document(answers.model_metadata(model.SerializeToString())) == expected
    model.parameters["k"].bool_param = True
    expected["parameters"] = {"k": True}
    assert document(answers.model_metadata(model.SerializeToString())) == expected


def test_the_index() -> None:
    found = inference.RepositoryIndexResponse()
    found.models.add(name="m", state="READY")
    expected = [{"name": "m", "version": "", "state": "READY", "reason": ""}]
    assert document(answers.index(found.SerializeToString())) == expected


@pytest.mark.parametrize(("message", "status"), [(b"\x08\x01", 200), (b"\x08\x00", 400), (b"", 400)])
def test_health(message: bytes, status: int) -> None:
    answer = answers.health(message, "ready", {"name": "m"})
    assert (answer.status, document(answer)) == (status, {"name": "m", "ready": status == 200})


def test_an_error() -> None:
    assert document(answers.error(404, 'no "m"')) == {"error": 'no "m"'}
