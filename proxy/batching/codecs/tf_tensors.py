"""TensorFlow's ``TensorProto``: its frame, and its elements in whichever of its forms.

Theory of operation
-------------------
Field numbers and types as in TensorFlow's ``tensor.proto``, ``tensor_shape.proto`` and ``types.proto``. The
elements are either in ``tensor_content``, as in memory, or in the one ``…_val`` field that the type calls
for. The latter may hold fewer values than the shape has places: the last value stands for all that follow. It
is written out before rows are joined, because in the middle of a batch it would mean others' places. Complex
types have two values for each element. Types that refer to something outside of the message (resources,
variants) are not understood.

A tensor of unknown rank or with named dimensions is refused.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.protobuf.message import Message
from proxy.protobuf.repeated import Repeated
from proxy.protobuf.wire import VARINT, Malformed, encode_field, encode_varint, key, read_varint, signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("TfTensor", "cut_elements", "elements_of", "read_tf_tensor", "values_of")

_DTYPE: Final = key(1, VARINT)
_SHAPE: Final = key(2)
_CONTENT: Final = key(4)
_DIMENSION: Final = key(2)
_SIZE: Final = key(1, VARINT)


class _Type(NamedTuple):
    """An element type: bytes in ``tensor_content`` (None: it is never there), and where its values go."""

    width: int | None
    values: Repeated
    per_element: int = 1


_INT, _HALF = Repeated(7), Repeated(13)
_TYPES: Final[Mapping[int, _Type]] = MappingProxyType({
    1: _Type(4, Repeated(5, 4)),  # float
    2: _Type(8, Repeated(6, 8)),  # double
    3: _Type(4, _INT),  # int32
    4: _Type(1, _INT),  # uint8
    5: _Type(2, _INT),  # int16
    6: _Type(1, _INT),  # int8
    7: _Type(None, Repeated(8, is_bytes=True)),  # string
    8: _Type(8, Repeated(9, 4), 2),  # complex64
    9: _Type(8, Repeated(10)),  # int64
    10: _Type(1, Repeated(11, is_signed=False)),  # bool
    11: _Type(1, _INT),  # qint8
    12: _Type(1, _INT),  # quint8
    13: _Type(4, _INT),  # qint32
    14: _Type(2, _HALF),  # bfloat16
    15: _Type(2, _INT),  # qint16
    16: _Type(2, _INT),  # quint16
    17: _Type(2, _INT),  # uint16
    18: _Type(16, Repeated(12, 8), 2),  # complex128
    19: _Type(2, _HALF),  # half
    22: _Type(4, Repeated(16, is_signed=False)),  # uint32
    23: _Type(8, Repeated(17, is_signed=False)),  # uint64
})  # fmt: skip
_KNOWN: Final = {
    number: frozenset((_DTYPE, _SHAPE, _CONTENT, kind.values.tag)) for number, kind in _TYPES.items()
}


class TfTensor(NamedTuple):
    """A tensor without its elements: `dtype` is TensorFlow's number, `rest` the fields that are neither type
    nor shape nor elements."""

    dtype: int
    shape: tuple[int, ...]
    rest: bytes
    has_content: bool

    @property
    def stride(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape[1:])

    def filled(self, items: int, elements: bytes) -> bytes:
        """The message with so many rows."""
        shape = b"".join([
            encode_field(_DIMENSION, encode_varint(_SIZE) + encode_varint(size))
            for size in (items, *self.shape[1:])
        ])  # fmt: skip
        content = (
            encode_field(_CONTENT, elements)
            if self.has_content
            else _TYPES[self.dtype].values.field(elements)
        )
        head = encode_varint(_DTYPE) + encode_varint(self.dtype) + encode_field(_SHAPE, shape)
        return b"".join((head, content, self.rest))


def read_tf_tensor(data: bytes, at: int, end: int) -> tuple[TfTensor, Message]:
    """The tensor that stands in `data` from `at` to `end`; raises `Malformed`."""
    dtype = _number(Message(data, at, end, frozenset((_DTYPE,))), _DTYPE)
    known = _KNOWN.get(dtype)
    if known is None:
        raise Malformed(f"elements of type {dtype}")
    message = Message(data, at, end, known)
    message.value(_SHAPE)
    shape = tuple([size for place in message.places(_SHAPE) for size in _sizes(data, *place)])
    return TfTensor(dtype, shape, message.unknown, bool(message.fields(_CONTENT))), message


def elements_of(tensor: TfTensor, message: Message) -> bytes:
    """The bytes of a tensor's elements, one for each place of its shape; raises `Malformed`."""
    kind, count = _TYPES[tensor.dtype], math.prod(tensor.shape)
    values = kind.values.payload(message)
    if tensor.has_content:
        content = message.value(_CONTENT)
        if values or kind.width is None or len(content) != count * kind.width:
            raise Malformed("content that does not fill the shape")
        return content
    return _written_out(kind, values, count)


def cut_elements(tensor: TfTensor, elements: bytes, counts: Sequence[int]) -> list[bytes]:
    """The bytes of so many elements each."""
    kind = _TYPES[tensor.dtype]
    if not tensor.has_content:
        return kind.values.cut(elements, [count * kind.per_element for count in counts])
    return Repeated(0, kind.width).cut(elements, counts)


def values_of(tensor: TfTensor, elements: bytes) -> list[object] | bytes:
    """The elements as values, or as bytes where ``tensor_content`` holds other than real numbers."""
    kind = _TYPES[tensor.dtype]
    if not tensor.has_content or tensor.dtype in {1, 2}:
        return kind.values.values(elements)
    return elements


def _written_out(kind: _Type, values: bytes, count: int) -> bytes:
    """`values` with as many elements as there are places."""
    have, odd = divmod(kind.values.count(values), kind.per_element)
    if have == count and not odd:
        return values
    if not 0 < have < count or odd:
        raise Malformed("values that do not fill the shape")
    _, last = kind.values.cut(values, [(have - 1) * kind.per_element, kind.per_element])
    return values + last * (count - have)


def _sizes(data: bytes, at: int, end: int) -> list[int]:
    shape = Message(data, at, end, frozenset((_DIMENSION,)))
    if shape.unknown:
        raise Malformed("a shape of unknown rank")
    sizes = []
    for place in shape.places(_DIMENSION):
        dimension = Message(data, *place, frozenset((_SIZE,)))
        if dimension.unknown:
            raise Malformed("a dimension with a name")
        sizes.append(signed(_number(dimension, _SIZE)))
    return sizes


def _number(message: Message, tag: int) -> int:
    value = message.value(tag)
    return read_varint(value, 0, len(value))[0] if value else 0
