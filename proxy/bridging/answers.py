"""Answers of the gRPC form as those of the REST form.

Theory of operation
-------------------
Each function takes one message and returns a status, the header fields that describe the body, and the body.
Fields that a message leaves out have their defaults, and are left out of the JSON where REST servers do so
(``id``, ``parameters``). Elements are written flat. Numbers that JSON does not know (NaN, infinities) become
null, as the common encoders of model servers have it; a text that is not UTF-8 can only be had as bytes.

``false`` as an answer about health is a status of 400: the protocol asks for a 4xx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from proxy.bridging.documents import document
from proxy.bridging.parameters import decode_parameters
from proxy.protobuf import inference as pb
from proxy.protobuf.datatypes import encode
from proxy.protobuf.message import Message
from proxy.protobuf.tensors import raw_outputs, read_tensor, tensor_values
from proxy.protobuf.wire import VARINT, cut, key, read_varint, read_varints, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.bridging.infer import Wishes
    from proxy.exchange import Headers
    from proxy.protobuf.tensors import Tensor

__all__ = (
    "JSON",
    "Answer",
    "error",
    "health",
    "index",
    "inference",
    "model_config",
    "model_metadata",
    "server_metadata",
    "statistics",
)

JSON: Final[Headers] = ((b"content-type", b"application/json"),)
_encode: Final = msgspec.json.encode
_FIRST: Final = key(1, VARINT)
_TENSOR_METADATA: Final = frozenset(
    (pb.TENSOR_NAME, pb.TENSOR_DATATYPE, pb.TENSOR_SHAPE, pb.TENSOR_PARAMETERS)
)
_METADATA: Final = frozenset(key(number) for number in range(1, 7))


class Answer(NamedTuple):
    """A REST answer."""

    status: int
    headers: Headers
    body: bytes


def error(status: int, message: str) -> Answer:
    """An error in the protocol's own words."""
    return Answer(status, JSON, _encode({"error": message}))


def health(message: bytes, name: str, more: dict[str, str]) -> Answer:
    """Field 1 tells whether what `name` says is true; `more` stands before it."""
    is_true = any(tag == _FIRST and read_varint(message, at, end)[0] for tag, _, at, end in cut(message))
    return Answer(200 if is_true else 400, JSON, _encode(more | {name: is_true}))


def server_metadata(data: bytes) -> Answer:
    """Name, version and extensions."""
    message = Message(data, 0, len(data), _METADATA)
    name, version = _text(message, 1), _text(message, 2)
    extensions = [value.decode() for value in message.values(key(3))]
    return Answer(200, JSON, _encode({"name": name, "version": version, "extensions": extensions}))


def model_metadata(data: bytes) -> Answer:
    """Name, versions, platform, inputs and outputs."""
    message = Message(data, 0, len(data), _METADATA)
    described: dict[str, Any] = {
        "name": _text(message, 1),
        "versions": [value.decode() for value in message.values(key(2))],
        "platform": _text(message, 3),
        "inputs": [_tensor_metadata(data, *place) for place in message.places(key(4))],
        "outputs": [_tensor_metadata(data, *place) for place in message.places(key(5))],
    }
    parameters = decode_parameters(message.fields(key(6)))
    return Answer(200, JSON, _encode(described | ({"parameters": parameters} if parameters else {})))


def model_config(data: bytes) -> Answer:
    """How a model is configured; raises ValueError."""
    config = Message(data, 0, len(data), _METADATA).value(key(1))
    return Answer(200, JSON, _encode(document("ModelConfig", config)))


def statistics(data: bytes) -> Answer:
    """What models have done so far; raises ValueError."""
    places = Message(data, 0, len(data), _METADATA).places(key(1))
    models = [document("ModelStatistics", data, *place) for place in places]
    return Answer(200, JSON, _encode({"model_stats": models}))


def index(data: bytes) -> Answer:
    """The models of a repository."""
    models = []
    for value in Message(data, 0, len(data), frozenset((key(1),))).values(key(1)):
        model = Message(value, 0, len(value), _METADATA)
        names = ("name", "version", "state", "reason")
        models.append({name: _text(model, number) for number, name in enumerate(names, 1)})
    return Answer(200, JSON, _encode(models))


def inference(data: bytes, wishes: Wishes) -> Answer:
    """An inference answer with its outputs as they are wanted; raises ValueError."""
    message = Message(data, 0, len(data), pb.ANSWER)
    tensors = [read_tensor(data, *place) for place in message.places(pb.TENSOR)]
    head: dict[str, Any] = {"model_name": message.value(pb.MODEL_NAME).decode()}
    version, ident = message.value(pb.MODEL_VERSION), message.value(pb.ID)
    if version:
        head["model_version"] = version.decode()
    if ident:
        head["id"] = ident.decode()
    parameters = decode_parameters(message.fields(pb.PARAMETERS))
    if parameters:
        head["parameters"] = parameters
    outputs, blobs = _outputs(message, tensors, wishes)
    head["outputs"] = outputs
    words = _encode(head)
    if not blobs:
        return Answer(200, JSON, words)
    length = (b"Inference-Header-Content-Length", b"%d" % len(words))
    return Answer(200, ((b"content-type", b"application/octet-stream"), length), b"".join((words, *blobs)))


def _outputs(
    message: Message, tensors: Sequence[Tensor], wishes: Wishes
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Each output for the JSON, and the bytes that follow it."""
    contents = raw_outputs(message, tensors)
    outputs, blobs = [], []
    for tensor, raw in zip(tensors, contents, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        parameters = decode_parameters(tensor.parameters)
        is_binary = wishes.is_binary(tensor.name)
        if is_binary:
            blobs.append(_bytes_of(message.data, tensor, raw))
            parameters["binary_data_size"] = len(blobs[-1])
        if parameters:
            output["parameters"] = parameters
        if not is_binary:
            output["data"] = _plain(tensor.name, tensor_values(message.data, tensor, raw))
        outputs.append(output)
    return outputs, blobs


def _bytes_of(data: bytes, tensor: Tensor, raw: bytes | None) -> bytes:
    return encode(tensor.datatype, tensor_values(data, tensor, None)) if raw is None else raw


def _plain(name: str, values: list[object]) -> list[object]:
    """Elements as JSON has them."""
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        raise ValueError(f"output {name} is not UTF-8: ask for binary_data") from None


def _tensor_metadata(data: bytes, at: int, end: int) -> dict[str, Any]:
    tensor = Message(data, at, end, _TENSOR_METADATA)
    shape = tensor.value(pb.TENSOR_SHAPE)
    described: dict[str, Any] = {
        "name": tensor.value(pb.TENSOR_NAME).decode(),
        "datatype": tensor.value(pb.TENSOR_DATATYPE).decode(),
        "shape": [signed(size) for size in read_varints(shape, 0, len(shape))],
    }
    parameters = decode_parameters(tensor.fields(pb.TENSOR_PARAMETERS))
    return described | ({"parameters": parameters} if parameters else {})


def _text(message: Message, number: int) -> str:
    return message.value(key(number)).decode()
