"""Tensors of the Open Inference Protocol: rows joined and cut, as JSON and as bytes.

Theory of operation
-------------------
A tensor has a shape whose first dimension counts the rows, one for each item; a row has `stride` elements.
Data is row-major in every form, so rows of different members are joined one after the other.

*JSON.* ``data`` is nested (a list for each dimension) or flat. It is proved to fill its shape before it is
merged: the skeleton of an array of numbers (see `json_bytes`) must be the one that the shape demands. A
member whose data is short would shift the rows of all who come after it.

*Bytes.* Elements of a fixed size need only arithmetic. ``BYTES`` elements are each preceded by their length
(four bytes, little-endian), and rows are found by walking over them; the last must end where the tensor
does.

*Parameters* that give a tensor or a request a life beyond itself (sequences, shared memory) or are reserved
by a server are not merged. They are looked for by their text, so a parameter spelt with escapes is not
merged either.
"""

from __future__ import annotations

import math
import re
import struct
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from proxy.batching.codecs.json_bytes import has_empty, pieces, quotes, skeleton
from proxy.errors import MergeRefused, SplitMismatch
from proxy.protobuf.datatypes import WIDTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Prepared

__all__ = (
    "check_parameters",
    "check_shape",
    "cut_bytes",
    "cut_json",
    "cut_rows",
    "fills",
    "is_nested",
    "is_whole",
    "size_list",
)

_FORBIDDEN = re.compile(rb'\\|"(?:sequence_|shared_memory_|triton_)')
_BINARY = b'"binary_data'
_WHY = {
    b"\\": "escaped_parameters",
    b'"sequence_': "stateful",
    b'"shared_memory_': "shared_memory",
    b'"triton_': "reserved_parameters",
}
_WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"|true|false', re.DOTALL)
_NESTED = re.compile(rb"\[[ \t\r\n]*\[")
_MOST_DIMENSIONS = 16

_length_at = struct.Struct("<I").unpack_from

_rows = msgspec.json.Decoder(list[Raw]).decode


def check_parameters(parameters: bytes, *, may_be_binary: bool = False) -> bytes:
    """`parameters` (JSON text) unless one of them forbids merging."""
    found = _FORBIDDEN.search(parameters)
    if found is not None:
        raise MergeRefused(_WHY[found[0]])
    if not may_be_binary and _BINARY in parameters:
        raise MergeRefused("binary_tensors")
    return parameters


def check_shape(shape: Sequence[int], items: int) -> None:
    """Refuse a tensor that does not have `items` rows, at least one, of at least one element."""
    if not shape or shape[0] != items or min(shape) < 1 or len(shape) > _MOST_DIMENSIONS:
        raise MergeRefused("batch_dimension")


def size_list(row_shape: Sequence[int]) -> bytes:
    """The dimensions of a row as they follow the row count in a shape: ``,3,4``."""
    return b"".join([b",%d" % size for size in row_shape])


# ------------------------------------------------------------------------- JSON
def fills(data: bytes, shape: list[int]) -> tuple[bool, int]:
    """Whether the JSON array `data` is nested, and its quotation marks.

    Raises `MergeRefused` unless its elements are exactly those of `shape`.
    """
    count = math.prod(shape)
    if not data.startswith(b"[") or len(data) < 2 * count + 1:  # so the outline is no longer than the body
        raise MergeRefused("shape")
    nested = is_nested(data, shape)
    outline = skeleton(data)
    marks = 0
    if outline.strip(b"[],"):
        marks = quotes(data)
        data = _WORDS.sub(b"1", data)
        outline = skeleton(data)
    if outline != _outline(shape if nested else [count]) or has_empty(data, outline):
        raise MergeRefused("shape")
    return nested, marks


def _outline(shape: list[int]) -> bytes:
    """The skeleton of an array of `shape`, brackets and commas only."""
    outline = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in reversed(shape[:-1]):
        outline = b"[%b]" % b",".join([outline] * size)
    return outline


def is_nested(data: bytes, shape: list[int]) -> bool:
    """True when the JSON array `data` has a list for each dimension of `shape`; False when it is flat."""
    return len(shape) > 1 and _NESTED.match(data) is not None


def cut_rows(rows: bytes, items: int, *, is_nested: bool) -> list[bytes]:
    """The text of each of `items` rows: `rows` is the inside of a JSON array that was proved to hold them."""
    elements: Sequence[bytes | Raw]
    elements = rows.split(b",") if not is_nested and b'"' not in rows else _rows(b"[%b]" % rows)
    stride = len(elements) // items
    return [b",".join(elements[start : start + stride]) for start in range(0, items * stride, stride)]


def cut_json(data: bytes, shape: list[int], members: Sequence[Prepared]) -> list[bytes | Raw]:
    """The rows of each member in the JSON array `data`, which is flat or nested.

    Raises `SplitMismatch`, or one of `NOT_JSON` for text that is not JSON.
    """
    stride = math.prod(shape[1:])
    rows: Sequence[bytes | Raw]
    if is_nested(data, shape):
        rows, stride = _rows(data), 1
    elif stride == 0 or b'"' in data or data.rfind(b"[") != 0 or not data[1:-1].strip():
        rows = _rows(data)
    else:  # numbers only: splitting costs a tenth of decoding
        rows = data[1:-1].split(b",")
    if len(rows) != shape[0] * stride:
        raise SplitMismatch(f"{len(rows)} elements for shape {shape}")
    return pieces(rows, members, stride)


# ------------------------------------------------------------------------ bytes
def is_whole(data: bytes, datatype: str, count: int) -> bool:
    """Whether `data` is exactly `count` elements of `datatype`."""
    width = WIDTHS.get(datatype)
    if width is not None:
        return len(data) == count * width
    return datatype == "BYTES" and _walk(data, 0, count) == len(data)


def cut_bytes(data: bytes, datatype: str, stride: int, members: Sequence[Prepared]) -> list[bytes]:
    """The rows of each member in `data`, rows of `stride` elements of `datatype`; raises `SplitMismatch`."""
    width = WIDTHS.get(datatype)
    if width is None and datatype != "BYTES":
        raise SplitMismatch(f"unknown datatype {datatype}")
    parts = []
    start = 0
    for member in members:
        count = member.items * stride
        end = start + count * width if width is not None else _walk(data, start, count)
        if end < start:
            raise SplitMismatch(f"{len(data)} bytes of {datatype} are too few")
        parts.append(data[start:end])
        start = end
    if start != len(data):
        raise SplitMismatch(f"{len(data)} bytes of {datatype} for {start}")
    return parts


def _walk(data: bytes, start: int, count: int) -> int:
    """Where `count` elements of ``BYTES`` end that begin at `start`, if all are there; else -1 or beyond."""
    size = len(data)
    for _ in range(count):
        if start + 4 > size:
            return -1
        start += 4 + _length_at(data, start)[0]
    return start
