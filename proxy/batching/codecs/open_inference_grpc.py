"""Open Inference over gRPC: ``inference.GRPCInferenceService/ModelInfer``.

Theory of operation
-------------------
The conditions are those of the REST form: members name the same model and inputs (datatype, shape beyond the
first dimension, parameters), ask for the same outputs, and write tensors in the same form, raw or typed.
``id`` is each caller's own.

Nothing is decoded that is not needed. A request is cut into its fields; those that must be equal are compared
and sent as bytes, unknown ones included, in the order of their numbers (parameters, whose order means
nothing, in the order of their keys). Elements are spliced: raw contents and packed numbers are joined as they
stand, and so are repeated ``bytes``. Each input is proved to hold exactly the elements of its shape.

An answer has every output's rows for all; its other fields are copied to each part, with the id of its
caller. A part is written as the servers' own library would write it, in the order of field numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.batching.codecs.base import Prepared
from proxy.batching.codecs.grpc_body import GrpcCodec, Messages
from proxy.batching.codecs.tensors import check_parameters, check_shape, cut_bytes, is_whole
from proxy.errors import MergeRefused
from proxy.protobuf import inference as pb
from proxy.protobuf.message import Message
from proxy.protobuf.tensors import Tensor, raw_outputs, read_tensor, tensor_values, typed_payload
from proxy.protobuf.wire import Malformed, cut, encode_field, key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("OpenInferenceGrpc",)

_REQUEST = frozenset((
    pb.MODEL_NAME,
    pb.MODEL_VERSION,
    pb.ID,
    pb.PARAMETERS,
    pb.TENSOR,
    pb.REQUESTED,
    pb.RAW_INPUT,
))  # fmt: skip
_REQUESTED_NAME = key(1)
_REQUESTED_PARAMETERS = key(2)
_REQUESTED = frozenset((_REQUESTED_NAME, _REQUESTED_PARAMETERS))
_ENTRY = frozenset((pb.ENTRY_KEY, pb.ENTRY_VALUE))


class _Frame(NamedTuple):
    """What the members of a batch have in common.

    `first` is what stands before their inputs, `asked` the outputs they ask for, `last` their unknown fields.
    An input's shape counts no rows here.
    """

    first: bytes
    inputs: tuple[Tensor, ...]
    asked: bytes
    last: bytes
    is_raw: bool


# --------------------------------------------------------------------- requests
def _prepared(message: Message) -> Prepared:
    tensors = [read_tensor(message.data, *place) for place in message.places(pb.TENSOR)]
    if not tensors:
        raise MergeRefused("empty")
    items = tensors[0].shape[0] if tensors[0].shape else 0
    for tensor in tensors:
        check_shape(tensor.shape, items)
    raw = message.values(pb.RAW_INPUT)
    payload = _raw_rows(tensors, raw) if raw else [typed_payload(message.data, tensor) for tensor in tensors]
    model = message.value(pb.MODEL_NAME)
    message.value(pb.MODEL_VERSION)
    common = _Frame(
        b"".join((
            *message.fields(pb.MODEL_NAME),
            *message.fields(pb.MODEL_VERSION),
            *_checked(message.fields(pb.PARAMETERS)),
        )),
        tuple([_without_rows(tensor) for tensor in tensors]),
        b"".join([_checked_output(message.data, *place) for place in message.places(pb.REQUESTED)]),
        message.unknown,
        bool(raw),
    )  # fmt: skip
    return Prepared(common, items, tuple(payload), common, message.value(pb.ID), model=model.decode())


def _raw_rows(tensors: Sequence[Tensor], raw: list[bytes]) -> list[bytes]:
    if len(raw) != len(tensors) or any(tensor.is_typed for tensor in tensors):
        raise MergeRefused("form")
    for tensor, rows in zip(tensors, raw, strict=True):
        if not is_whole(rows, tensor.datatype, tensor.shape[0] * tensor.stride):
            raise MergeRefused("shape")
    return raw


def _without_rows(tensor: Tensor) -> Tensor:
    """What must be equal for two inputs to be joined."""
    contents = (0, 0) if tensor.is_typed else None
    parameters = tuple(_checked(tensor.parameters))
    return tensor._replace(shape=(0, *tensor.shape[1:]), parameters=parameters, contents=contents)


def _checked(entries: Sequence[bytes]) -> Sequence[bytes]:
    """The entries of a map of parameters in the order of their keys; refuses those that forbid merging."""
    if not entries:
        return entries
    named = {_name_of(entry): entry for entry in entries}
    if len(named) != len(entries):
        raise MergeRefused("duplicate_keys")
    for name in named:
        check_parameters(b'"' + name)
    return [named[name] for name in sorted(named)]


def _name_of(entry: bytes) -> bytes:
    """The key in a map's entry, which comes with its own key and length."""
    ((_, _, at, end),) = cut(entry)
    return Message(entry, at, end, _ENTRY).value(pb.ENTRY_KEY)


def _checked_output(data: bytes, at: int, end: int) -> bytes:
    """An output that is asked for, with its parameters in order."""
    message = Message(data, at, end, _REQUESTED)
    parts = (*message.fields(_REQUESTED_NAME), *_checked(message.fields(_REQUESTED_PARAMETERS)))
    return encode_field(pb.REQUESTED, b"".join((*parts, message.unknown)))


def _joined(common: _Frame, items: int, columns: Sequence[bytes]) -> Iterable[bytes]:
    tensors = _tensors(common.inputs, items, None if common.is_raw else columns)
    raw = [encode_field(pb.RAW_INPUT, rows) for rows in columns] if common.is_raw else ()
    return (common.first, *tensors, common.asked, *raw, common.last)


def _tensors(tensors: Sequence[Tensor], items: int, payloads: Sequence[bytes] | None) -> list[bytes]:
    """The fields of `tensors` with so many rows; `payloads` are their elements if they are typed."""
    fields = []
    for index, tensor in enumerate(tensors):
        contents = b"" if payloads is None else pb.CONTENTS[tensor.datatype].field(payloads[index])
        fields.append(encode_field(pb.TENSOR, tensor.filled(items, contents)))
    return fields


# ---------------------------------------------------------------------- answers
def _cut(message: Message, members: Sequence[Prepared]) -> list[bytes]:
    tensors = [read_tensor(message.data, *place) for place in message.places(pb.TENSOR)]
    total = sum(member.items for member in members)
    if not tensors:
        raise Malformed("no outputs")
    for tensor in tensors:
        if not tensor.shape or tensor.shape[0] != total or min(tensor.shape) < 0:
            raise Malformed(f"an output of shape {tensor.shape} for {total} items")
    raw = raw_outputs(message, tensors)
    rows = [_rows(message.data, *pair, members) for pair in zip(tensors, raw, strict=True)]
    is_raw = raw[0] is not None
    first = b"".join(message.fields(pb.MODEL_NAME) + message.fields(pb.MODEL_VERSION))
    parameters = b"".join(message.fields(pb.PARAMETERS))
    parts = []
    for member, own in zip(members, zip(*rows, strict=True), strict=True):
        ident = encode_field(pb.ID, member.ident) if member.ident else b""
        outputs = _tensors(tensors, member.items, None if is_raw else own)
        contents = [encode_field(pb.RAW_OUTPUT, data) for data in own] if is_raw else ()
        parts.append(b"".join((first, ident, parameters, *outputs, *contents, message.unknown)))
    return parts


def _rows(data: bytes, tensor: Tensor, raw: bytes | None, members: Sequence[Prepared]) -> list[bytes]:
    """The elements of each member in an output."""
    if raw is not None:
        return cut_bytes(raw, tensor.datatype, tensor.stride, members)
    payload = typed_payload(data, tensor)
    return pb.CONTENTS[tensor.datatype].cut(payload, [member.items * tensor.stride for member in members])


def _content(message: Message) -> dict[str, object]:
    tensors = [read_tensor(message.data, *place) for place in message.places(pb.TENSOR)]
    raw = raw_outputs(message, tensors)
    return {
        "model": (message.value(pb.MODEL_NAME), message.value(pb.MODEL_VERSION)),
        "parameters": sorted(message.fields(pb.PARAMETERS)),
        "outputs": [(tensor.head, tensor.shape, sorted(tensor.parameters)) for tensor in tensors],
        "data": [tensor_values(message.data, *pair) for pair in zip(tensors, raw, strict=True)],
        "rest": message.unknown,
    }


class OpenInferenceGrpc(GrpcCodec):
    """``ModelInfer`` with raw or typed tensors."""

    def __init__(self) -> None:
        messages = Messages(_REQUEST, pb.ANSWER, _prepared, _joined, _cut, _content)
        super().__init__("open_inference_grpc", messages)
