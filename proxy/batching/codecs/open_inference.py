"""Open Inference (V2) REST with tensors as JSON: ``POST /v2/models/{m}[/versions/{v}]/infer``.

Theory of operation
-------------------
An item is one row: index 0 of every input's shape, which must agree. Members may share a call when they
name the same inputs in the same order with the same datatype, the same shape beyond the first dimension,
the same form (nested or flat data) and the same parameters, and ask for the same outputs. ``data`` is
row-major either way, so rows of different members are joined by a comma. ``id`` is each caller's own: it is
left out of the merged call and put back into each answer.

Data is proved to fill its shape before it is merged: the skeleton of an array of numbers (see `json_bytes`)
must be the one that the shape demands. A member whose data is short would shift the rows of all who come
after it.

An answer is cut the same way: every output must have as many rows as were asked, and exactly the elements
that its shape says.

Parameters that give a request a life beyond itself (sequences, shared memory), ask for binary tensors or
are reserved by a server are not merged.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.json_bytes import (
    NOT_JSON,
    check_text,
    has_empty,
    join_text,
    pieces,
    quotes,
    skeleton,
    split_text,
)
from proxy.errors import MergeRefused, SplitMismatch
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("OpenInference",)

_BINARY_LENGTH = b"inference-header-content-length"
_LOADED = re.compile(rb'\\|"(?:sequence_|shared_memory_|triton_|binary_data)')
_WHY = {
    b"\\": "escaped_parameters",
    b'"sequence_': "stateful",
    b'"shared_memory_': "shared_memory",
    b'"triton_': "reserved_parameters",
    b'"binary_data': "binary_tensors",
}
_WORDS = re.compile(rb'"(?:[^"\\]|\\.)*"|true|false', re.DOTALL)
_NESTED = re.compile(rb"\[[ \t\r\n]*\[")
_MOST_DIMENSIONS = 16

_Kind = tuple[str, str, tuple[int, ...], bytes, bool]
"""What members' inputs have in common: name, datatype, shape of a row, parameters, whether data is nested."""


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: Raw
    parameters: Raw | UnsetType = UNSET


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Input]
    id: Raw | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET
    outputs: Raw | UnsetType = UNSET


class _Output(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: Raw
    shape: list[int]
    datatype: Raw
    data: Raw
    parameters: Raw | UnsetType = UNSET


class _Answer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    outputs: list[_Output]
    model_name: Raw | UnsetType = UNSET
    model_version: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET


_request = msgspec.json.Decoder(_Request).decode
_answer = msgspec.json.Decoder(_Answer).decode
_rows = msgspec.json.Decoder(list[Raw]).decode
_ONE_ROW = Prepared((), 1, (b"",))


class OpenInference:
    """Tensors as JSON, flat or nested."""

    name = "open_inference"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows of every input, proved to fill their shapes; see `Codec.prepare`."""
        try:
            request = _request(body)
        except NOT_JSON as error:
            raise MergeRefused(_why(error, headers)) from None
        if not request.inputs:
            raise MergeRefused("empty")
        items = request.inputs[0].shape[0] if request.inputs[0].shape else 0
        payload, kinds, marks = [], [], 2
        for tensor in request.inputs:
            rows, kind, count = _rows_of(tensor, items)
            payload.append(rows)
            kinds.append(kind)
            marks += count
        ident, tail, count = _rest_of(request)
        if quotes(body) != marks + count:
            raise MergeRefused("duplicate_keys")
        check_text(body)
        key = (tuple(kinds), tail)
        return Prepared(key, items, tuple(payload), key, ident)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """One request with the rows of all; see `Codec.merge`."""
        kinds, tail = members[0].frame
        total = sum(member.items for member in members)
        tensors = [
            _tensor(kind, total, b",".join([member.payload[index] for member in members]))
            for index, kind in enumerate(kinds)
        ]
        return b'{"inputs":[%b]%b}' % (b",".join(tensors), tail), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The rows of each member; see `Codec.split`."""
        if field(answer[1], _BINARY_LENGTH) is not None:
            raise SplitMismatch("binary tensors were not asked for")
        return [(body, ()) for body in split_text(_cut, answer[0], members)]

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """One request for each row; see `Cutter.cut`."""
        heads, _ = prepared.frame
        columns = [
            _items(rows, prepared.items, is_nested=is_nested)
            for rows, (_, _, is_nested) in zip(prepared.payload, heads, strict=True)
        ]
        return [Prepared(prepared.key, 1, row, prepared.frame) for row in zip(*columns, strict=True)]

    def join(self, answers: Sequence[bytes]) -> bytes:
        """The rows of all in one answer; see `Cutter.join`."""
        return join_text(_joined, answers)


def _why(error: Exception, headers: Headers) -> str:
    """Why a body that was not understood is not merged."""
    if field(headers, _BINARY_LENGTH) is not None:
        return "binary_tensors"
    return "form" if isinstance(error, msgspec.ValidationError) else "not_json"


def _rows_of(tensor: _Input, items: int) -> tuple[bytes, _Kind, int]:
    """The bytes of all rows, what their kind is, and how many quotation marks the tensor has."""
    shape = tensor.shape
    if not shape or shape[0] != items or min(shape) < 1 or len(shape) > _MOST_DIMENSIONS:
        raise MergeRefused("batch_dimension")
    data = bytes(tensor.data)
    is_nested, marks = _fills(data, shape)
    extra = b""
    if tensor.parameters is not UNSET:
        extra = _checked(b',"parameters":%b' % tensor.parameters)
        marks += quotes(extra)
    # Four keys, a name and a datatype: a string has two marks, however its text is escaped.
    return data[1:-1], (tensor.name, tensor.datatype, tuple(shape[1:]), extra, is_nested), 12 + marks


def _tensor(kind: _Kind, items: int, rows: bytes) -> bytes:
    name, datatype, row_shape, extra, _ = kind
    sizes = b"".join([b",%d" % size for size in row_shape])
    encode = msgspec.json.encode
    return b'{"name":%b,"shape":[%d%b],"datatype":%b%b,"data":[%b]}' % (
        encode(name),
        items,
        sizes,
        encode(datatype),
        extra,
        rows,
    )


def _fills(data: bytes, shape: list[int]) -> tuple[bool, int]:
    """Whether `data` is nested, and its quotation marks.

    Raises `MergeRefused` unless its elements are exactly those of `shape`.
    """
    count = math.prod(shape)
    if not data.startswith(b"[") or len(data) < 2 * count + 1:  # so the outline is no longer than the body
        raise MergeRefused("shape")
    is_nested = len(shape) > 1 and _NESTED.match(data) is not None
    outline = skeleton(data)
    marks = 0
    if outline.strip(b"[],"):
        marks = quotes(data)
        data = _WORDS.sub(b"1", data)
        outline = skeleton(data)
    if outline != _outline(shape if is_nested else [count]) or has_empty(data, outline):
        raise MergeRefused("shape")
    return is_nested, marks


def _outline(shape: list[int]) -> bytes:
    """The skeleton of an array of `shape`, brackets and commas only."""
    outline = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in reversed(shape[:-1]):
        outline = b"[%b]" % b",".join([outline] * size)
    return outline


def _rest_of(request: _Request) -> tuple[bytes, bytes, int]:
    """The caller's id, the fields that must be equal, and how many quotation marks both have."""
    ident, marks = b"", 0
    if request.id is not UNSET:
        ident = bytes(request.id)
        if not ident.startswith(b'"'):
            raise MergeRefused("form")
        marks = 2 + quotes(ident)
    tail = b""
    if request.parameters is not UNSET:
        tail = _checked(b',"parameters":%b' % request.parameters)
    if request.outputs is not UNSET:
        tail += _checked(b',"outputs":%b' % request.outputs)
    return ident, tail, marks + quotes(tail)


def _checked(parameters: bytes) -> bytes:
    """`parameters` unless one of them forbids merging."""
    found = _LOADED.search(parameters)
    if found is not None:
        raise MergeRefused(_WHY[found[0]])
    return parameters


def _cut(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    answer = _decode_answer(body)
    total = sum(member.items for member in members)
    columns = [_column(tensor, total, members) for tensor in answer.outputs]
    before, after = _around(answer)
    parts = []
    for index, member in enumerate(members):
        items = b"%d" % member.items
        tensors = b"]},".join([b"".join((head, items, tail, rows[index])) for head, tail, rows in columns])
        ident = b',"id":' + member.ident if member.ident else b""
        parts.append(b"".join((before, tensors, b"]}]", after, ident, b"}")))
    return parts


def _items(rows: bytes, items: int, *, is_nested: bool) -> list[bytes]:
    """The bytes of each item's part of one input."""
    elements: Sequence[bytes | Raw] = (
        rows.split(b",") if not is_nested and b'"' not in rows else _rows(b"[%b]" % rows)
    )
    stride = len(elements) // items
    return [b",".join(elements[start : start + stride]) for start in range(0, items * stride, stride)]


def _joined(answers: Sequence[bytes]) -> bytes:
    parts = [_decode_answer(answer) for answer in answers]
    around = {(_around(part), tuple(map(_form, part.outputs))) for part in parts}
    if len(around) != 1:
        raise SplitMismatch("answers to one item each do not fit together")
    ((before, after), forms) = around.pop()
    tensors = [
        b"%b%d%b%b]}"
        % (head, len(parts), tail, b",".join([bytes(part.outputs[index].data)[1:-1] for part in parts]))
        for index, (head, tail, _) in enumerate(forms)
    ]
    return b'{%b"outputs":[%b]%b}' % (before, b",".join(tensors), after)


def _form(tensor: _Output) -> tuple[bytes, bytes, bool]:
    """What goes around the one row of an output, and whether it is nested."""
    head, tail, _ = _column(tensor, 1, (_ONE_ROW,))
    return head, tail, len(tensor.shape) > 1 and _NESTED.match(bytes(tensor.data)) is not None


def _decode_answer(body: bytes) -> _Answer:
    try:
        answer = _answer(body)
    except msgspec.ValidationError as error:
        raise SplitMismatch(f"not an inference response: {error}") from None
    if not answer.outputs:
        raise SplitMismatch("no outputs in the answer")
    return answer


def _around(answer: _Answer) -> tuple[bytes, bytes]:
    """The fields of the answer that are the same for every member, before and after its outputs."""
    before = b"{"
    if answer.model_name is not UNSET:
        before += b'"model_name":%b,' % answer.model_name
    if answer.model_version is not UNSET:
        before += b'"model_version":%b,' % answer.model_version
    before += b'"outputs":['
    after = b"" if answer.parameters is UNSET else b',"parameters":%b' % answer.parameters
    return before, after


def _column(
    tensor: _Output, total: int, members: Sequence[Prepared]
) -> tuple[bytes, bytes, list[bytes | Raw]]:
    """What goes around one output's rows, and the rows of each member."""
    shape = tensor.shape
    if not shape or shape[0] != total or min(shape) < 0:
        raise SplitMismatch(f"output {bytes(tensor.name).decode()} has shape {shape} for {total} items")
    extra = b"" if tensor.parameters is UNSET else b',"parameters":%b' % tensor.parameters
    sizes = b"".join([b",%d" % size for size in shape[1:]])
    return (
        b'{"name":%b,"shape":[' % tensor.name,
        b'%b],"datatype":%b%b,"data":[' % (sizes, tensor.datatype, extra),
        _pieces(bytes(tensor.data), shape, members),
    )


def _pieces(data: bytes, shape: list[int], members: Sequence[Prepared]) -> list[bytes | Raw]:
    stride = math.prod(shape[1:])
    rows: Sequence[bytes | Raw]
    if len(shape) > 1 and _NESTED.match(data) is not None:
        rows, stride = _rows(data), 1
    elif stride == 0 or b'"' in data or b"[" in data[1:]:
        rows = _rows(data)
    else:
        rows = data[1:-1].split(b",")
    if len(rows) != shape[0] * stride:
        raise SplitMismatch(f"{len(rows)} elements for shape {shape}")
    return pieces(rows, members, stride)
