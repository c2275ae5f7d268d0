"""An inference request in JSON (with or without binary tensors) as a ``ModelInferRequest``.

Theory of operation
-------------------
Every input goes into ``raw_input_contents``: its bytes as they came where the request has them behind its
JSON (``Inference-Header-Content-Length`` says where that ends, ``binary_data_size`` how many belong to an
input), else its JSON elements, flat or nested, written as the datatype demands. Each input must have exactly
the elements of its shape, and each element must fit. What need not be there may as well be null: clients that
are made from the protocol's schema write it so.

Whether outputs are wanted as JSON or as bytes is the REST form's own affair (``binary_data_output`` of a
request, ``binary_data`` of an output); it is taken out of the parameters and remembered for the answer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from proxy.bridging.parameters import encode_parameters
from proxy.exchange import field
from proxy.protobuf import inference as pb
from proxy.protobuf.datatypes import WIDTHS, encode
from proxy.protobuf.wire import encode_field, encode_varint, key

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("HEAD_LENGTH", "Wishes", "infer_request")

HEAD_LENGTH: Final = b"inference-header-content-length"
_REQUESTED_NAME: Final = key(1)
_REQUESTED_PARAMETERS: Final = key(2)


class Wishes(NamedTuple):
    """Which outputs are wanted as bytes: those named, and whether all others are."""

    by_name: dict[str, bool]
    others: bool

    def is_binary(self, name: str) -> bool:
        """Whether the output `name` is wanted as bytes."""
        return self.by_name.get(name, self.others)


class _Tensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decode: Final = msgspec.json.Decoder(_Request).decode


def infer_request(model: str, version: str, body: bytes, headers: Headers) -> tuple[bytes, Wishes]:
    """The message for this request, and how its outputs are wanted; raises ValueError."""
    size = _head_length(body, headers)
    request = _decode(body[:size])
    rest, parameters = body[size:], dict(request.parameters or {})
    is_binary = parameters.pop("binary_data_output", False) is True
    wishes = Wishes({}, is_binary)
    parts = [encode_field(pb.MODEL_NAME, model.encode())]
    if version:
        parts.append(encode_field(pb.MODEL_VERSION, version.encode()))
    if request.id:
        parts.append(encode_field(pb.ID, request.id.encode()))
    parts.append(encode_parameters(pb.PARAMETERS, parameters))
    raw = []
    for tensor in request.inputs:
        own = dict(tensor.parameters or {})
        contents, rest = _contents(tensor, own.pop("binary_data_size", None), rest)
        raw.append(encode_field(pb.RAW_INPUT, contents))
        parts.append(encode_field(pb.TENSOR, _input(tensor, own)))
    for output in request.outputs or ():
        own = dict(output.parameters or {})
        wishes.by_name[output.name] = own.pop("binary_data", is_binary) is True
        name = encode_field(_REQUESTED_NAME, output.name.encode())
        parts.append(encode_field(pb.REQUESTED, name + encode_parameters(_REQUESTED_PARAMETERS, own)))
    if rest:
        raise ValueError(f"{len(rest)} bytes belong to no input")
    return b"".join((*parts, *raw)), wishes


def _head_length(body: bytes, headers: Headers) -> int:
    length = field(headers, HEAD_LENGTH)
    if length is None:
        return len(body)
    if not length.isdigit() or not 0 < int(length) <= len(body):
        raise ValueError("Inference-Header-Content-Length is not the length of a JSON head")
    return int(length)


def _contents(tensor: _Tensor, size: object, rest: bytes) -> tuple[bytes, bytes]:
    """An input's elements, and what is left of the bytes behind the JSON."""
    if not tensor.shape or min(tensor.shape) < 0:
        raise ValueError(f"input {tensor.name} has shape {tensor.shape}")
    count = math.prod(tensor.shape)
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(rest) or tensor.data is not None:
            raise ValueError(f"input {tensor.name} has no {size} bytes behind the JSON, or data as well")
        width = WIDTHS.get(tensor.datatype)
        if width is not None and size != count * width:
            raise ValueError(f"input {tensor.name} has {size} bytes for shape {tensor.shape}")
        return rest[:size], rest[size:]
    if tensor.datatype in {"FP16", "BF16"}:
        raise ValueError(f"input {tensor.name}: {tensor.datatype} has no JSON form, send it as bytes")
    values = _elements(tensor)
    if len(values) != count:
        raise ValueError(f"input {tensor.name} has {len(values)} elements for shape {tensor.shape}")
    try:
        return encode(tensor.datatype, values), rest
    except ValueError as error:
        raise ValueError(f"input {tensor.name}: {error}") from None


def _elements(tensor: _Tensor) -> list[object]:
    """The elements of ``data``, which is flat or has a list for each dimension."""
    data = tensor.data
    if not isinstance(data, list):
        raise ValueError(f"input {tensor.name} has no data")  # noqa: TRY004  callers expect one exception
    if not data or not isinstance(data[0], list):
        return data
    try:
        return _nested(data, tensor.shape)
    except ValueError:
        raise ValueError(f"input {tensor.name} has data of another shape than {tensor.shape}") from None


def _nested(data: object, shape: list[int]) -> list[object]:
    if not isinstance(data, list) or not shape or len(data) != shape[0]:
        raise ValueError
    if len(shape) == 1:
        return data
    return [element for inner in data for element in _nested(inner, shape[1:])]


def _input(tensor: _Tensor, parameters: dict[str, object]) -> bytes:
    shape = b"".join([encode_varint(size) for size in tensor.shape])
    return b"".join((
        encode_field(pb.TENSOR_NAME, tensor.name.encode()),
        encode_field(pb.TENSOR_DATATYPE, tensor.datatype.encode()),
        encode_field(pb.TENSOR_SHAPE, shape),
        encode_parameters(pb.TENSOR_PARAMETERS, parameters),
    ))  # fmt: skip
