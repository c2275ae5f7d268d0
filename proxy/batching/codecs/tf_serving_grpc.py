"""TensorFlow Serving over gRPC: ``tensorflow.serving.PredictionService/Predict``.

Theory of operation
-------------------
Field numbers as in the published ``predict.proto`` and ``model.proto``. Inputs and outputs are maps from a
name to a ``TensorProto`` (see `tf_tensors`); an item is one row, index 0 of every input's shape. Members may
share a call when model, version and signature, the outputs they filter for and every option are the same
bytes, and their inputs agree in name, type, form and the shape of a row. Maps come in any order: inputs are
put in the order of their names.

A request with streaming options belongs to another method and is refused. Answers carry no id; everything but
the outputs is copied to each part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.batching.codecs.base import Prepared
from proxy.batching.codecs.grpc_body import GrpcCodec, Messages
from proxy.batching.codecs.tensors import check_shape
from proxy.batching.codecs.tf_tensors import TfTensor, cut_elements, elements_of, read_tf_tensor, values_of
from proxy.errors import MergeRefused
from proxy.protobuf.message import Message, peek
from proxy.protobuf.wire import Malformed, encode_field, key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("TfServingGrpc",)

_MODEL_SPEC: Final = key(1)
_INPUTS: Final = key(2)
_OUTPUT_FILTER: Final = key(3)
_STREAMING: Final = key(5)
_OUTPUTS: Final = key(1)
_REQUEST: Final = frozenset((_MODEL_SPEC, _INPUTS, _OUTPUT_FILTER, _STREAMING))
_ANSWER: Final = frozenset((_OUTPUTS,))
_NAME: Final = key(1)
_TENSOR: Final = key(2)
_ENTRY: Final = frozenset((_NAME, _TENSOR))


class _Frame(NamedTuple):
    """What the members of a batch have in common: their inputs by name, and what stands around them."""

    model_spec: bytes
    inputs: tuple[tuple[bytes, TfTensor], ...]
    rest: bytes


def _prepared(message: Message) -> Prepared:
    if message.fields(_STREAMING):
        raise MergeRefused("stateful")
    inputs = sorted(_named(message, _INPUTS))
    if not inputs:
        raise MergeRefused("empty")
    items = inputs[0][1].shape[0] if inputs[0][1].shape else 0
    for _, tensor, _ in inputs:
        check_shape(tensor.shape, items)
    model = peek(message.value(_MODEL_SPEC), 0, (1,))
    common = _Frame(
        b"".join(message.fields(_MODEL_SPEC)),
        tuple([(name, tensor._replace(shape=(0, *tensor.shape[1:]))) for name, tensor, _ in inputs]),
        b"".join((*message.fields(_OUTPUT_FILTER), message.unknown)),
    )
    payload = tuple([elements for *_, elements in inputs])
    return Prepared(common, items, payload, common, model=model.decode())


def _joined(common: _Frame, items: int, columns: Sequence[bytes]) -> Iterable[bytes]:
    inputs = [
        _entry(_INPUTS, name, tensor.filled(items, rows))
        for (name, tensor), rows in zip(common.inputs, columns, strict=True)
    ]
    return (common.model_spec, *inputs, common.rest)


def _cut(message: Message, members: Sequence[Prepared]) -> list[bytes]:
    total = sum(member.items for member in members)
    outputs = _named(message, _OUTPUTS)
    if not outputs:
        raise Malformed("no outputs")
    rows = []
    for _, tensor, elements in outputs:
        if not tensor.shape or tensor.shape[0] != total or min(tensor.shape) < 0:
            raise Malformed(f"an output of shape {tensor.shape} for {total} items")
        rows.append(cut_elements(tensor, elements, [member.items * tensor.stride for member in members]))
    parts = []
    for member, own in zip(members, zip(*rows, strict=True), strict=True):
        entries = [
            _entry(_OUTPUTS, name, tensor.filled(member.items, part))
            for (name, tensor, _), part in zip(outputs, own, strict=True)
        ]
        parts.append(b"".join((*entries, message.unknown)))
    return parts


def _content(message: Message) -> object:
    outputs = {
        name: (tensor.dtype, tensor.shape, tensor.rest, values_of(tensor, elements))
        for name, tensor, elements in _named(message, _OUTPUTS)
    }
    return {"outputs": outputs, "rest": message.unknown}


def _named(message: Message, tag: int) -> list[tuple[bytes, TfTensor, bytes]]:
    """Name, frame and elements of each tensor in a map, as it came; raises `Malformed`."""
    found = []
    for place in message.places(tag):
        entry = Message(message.data, *place, _ENTRY)
        entry.value(_TENSOR)
        for tensor_at in entry.places(_TENSOR):
            tensor, fields = read_tf_tensor(message.data, *tensor_at)
            found.append((entry.value(_NAME), tensor, elements_of(tensor, fields)))
    if len({name for name, *_ in found}) != len(message.places(tag)):
        raise Malformed("a tensor that is missing or there twice")
    return found


def _entry(tag: int, name: bytes, tensor: bytes) -> bytes:
    return encode_field(tag, encode_field(_NAME, name) + encode_field(_TENSOR, tensor))


class TfServingGrpc(GrpcCodec):
    """``Predict``."""

    def __init__(self) -> None:
        messages = Messages(_REQUEST, _ANSWER, _prepared, _joined, _cut, _content)
        super().__init__("tf_serving_grpc", messages)
