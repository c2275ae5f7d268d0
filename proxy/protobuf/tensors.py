"""Tensors inside messages of the Open Inference Protocol: their frames, and their elements in typed form.

Theory of operation
-------------------
A tensor is cut into its name and datatype, its shape, its parameters, whatever else there is, and the place
of its contents. Shape and contents change with the number of rows, everything else is carried along as bytes.

The *typed contents* hold one repeated field, the one that the datatype calls for, and must fill the shape
exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from proxy.protobuf import inference as pb
from proxy.protobuf.datatypes import decode
from proxy.protobuf.message import Message, peek
from proxy.protobuf.wire import Malformed, encode_field, encode_varint, read_varints, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Tensor", "raw_outputs", "read_tensor", "tensor_values", "typed_payload")

_TENSOR = frozenset((
    pb.TENSOR_NAME,
    pb.TENSOR_DATATYPE,
    pb.TENSOR_SHAPE,
    pb.TENSOR_SIZE,
    pb.TENSOR_PARAMETERS,
    pb.TENSOR_CONTENTS,
))  # fmt: skip


class Tensor(NamedTuple):
    """A tensor without its elements.

    `head` holds name and datatype, `parameters` one entry each, `rest` the unknown fields: all as they came.
    `contents` is where its typed elements are, None without.
    """

    head: bytes
    datatype: str
    shape: tuple[int, ...]
    parameters: tuple[bytes, ...]
    rest: bytes
    contents: tuple[int, int] | None

    @property
    def name(self) -> str:
        """What the tensor is called."""
        return peek(self.head, 0, (1,)).decode()

    @property
    def stride(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape[1:])

    @property
    def is_typed(self) -> bool:
        """Whether its elements are here; servers also write empty contents beside raw ones."""
        return self.contents is not None and self.contents[0] < self.contents[1]

    def filled(self, items: int, contents: bytes) -> bytes:
        """The tensor with so many rows, and with these contents if it has any."""
        sizes = b"".join([encode_varint(size) for size in (items, *self.shape[1:])])
        parts = [self.head, encode_field(pb.TENSOR_SHAPE, sizes), *self.parameters]
        if self.contents is not None:
            parts.append(encode_field(pb.TENSOR_CONTENTS, contents))
        return b"".join((*parts, self.rest))


def read_tensor(data: bytes, at: int, end: int) -> Tensor:
    """The tensor that stands in `data` from `at` to `end`; raises ValueError (`Malformed`)."""
    message = Message(data, at, end, _TENSOR)
    if message.fields(pb.TENSOR_SIZE):
        raise Malformed("a shape that is not packed")
    message.value(pb.TENSOR_NAME)
    shape = message.value(pb.TENSOR_SHAPE)
    contents = message.places(pb.TENSOR_CONTENTS)
    if len(contents) > 1:
        raise Malformed("contents in pieces")
    return Tensor(
        b"".join(message.fields(pb.TENSOR_NAME) + message.fields(pb.TENSOR_DATATYPE)),
        message.value(pb.TENSOR_DATATYPE).decode(),
        tuple([signed(size) for size in read_varints(shape, 0, len(shape))]),
        tuple(message.fields(pb.TENSOR_PARAMETERS)),
        message.unknown,
        contents[0] if contents else None,
    )


def typed_payload(data: bytes, tensor: Tensor) -> bytes:
    """The elements of a typed `tensor` in `data`; raises `Malformed` unless there is one for each place."""
    elements = pb.CONTENTS.get(tensor.datatype)
    if elements is None or tensor.contents is None:
        raise Malformed("a tensor without elements, or of a type that has none here")
    contents = Message(data, *tensor.contents, frozenset((elements.tag,)))
    payload = elements.payload(contents)
    if contents.unknown or elements.count(payload) != math.prod(tensor.shape):
        raise Malformed("contents that do not fill the shape")
    return payload


def raw_outputs(message: Message, tensors: Sequence[Tensor]) -> Sequence[bytes | None]:
    """The raw contents of each output of an answer, None where all are typed; raises `Malformed`."""
    raw = message.values(pb.RAW_OUTPUT)
    if not raw:
        return [None] * len(tensors)
    if len(raw) != len(tensors) or any(tensor.is_typed for tensor in tensors):
        raise Malformed("raw contents that do not belong to the outputs")
    return raw


def tensor_values(data: bytes, tensor: Tensor, raw: bytes | None) -> list[object]:
    """The elements of a tensor in `data` (bool, int, float or bytes), or those in its `raw` contents.

    Raises ValueError (`Malformed`).
    """
    if raw is not None:
        values = decode(tensor.datatype, raw)
        if len(values) != math.prod(tensor.shape):
            raise Malformed("contents that do not fill the shape")
        return values
    values = pb.CONTENTS[tensor.datatype].values(typed_payload(data, tensor))
    return [bool(value) for value in values] if tensor.datatype == "BOOL" else values
