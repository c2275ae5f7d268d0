"""Open Inference (V2) REST with tensors as JSON: ``POST /v2/models/{m}[/versions/{v}]/infer``.

Theory of operation
-------------------
An item is one row: index 0 of every input's shape, which must agree. Members may share a call when they
name the same inputs in the same order with the same datatype, the same shape beyond the first dimension,
the same form (nested or flat data) and the same parameters, and ask for the same outputs. ``id`` is each
caller's own: it is left out of the merged call and put back into each answer. How rows are joined and cut:
see `tensors`.

Requests that carry or ask for binary tensors are left to `open_inference_binary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.infer_answers import AnswerWriter, OutputFrame, read_frame
from proxy.batching.codecs.infer_requests import InferRequest, Input, Request
from proxy.batching.codecs.json_bytes import NOT_JSON, check_text, join_text, quotes, split_text
from proxy.batching.codecs.tensors import (
    check_parameters,
    check_shape,
    cut_json,
    cut_rows,
    fills,
    is_nested,
    size_list,
)
from proxy.errors import MergeRefused, SplitMismatch
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("BINARY_LENGTH", "OpenInferenceJson", "own_fields")

BINARY_LENGTH = b"inference-header-content-length"
"""The field that says how long the JSON before binary tensors is."""

_Kind = tuple[str, str, tuple[int, ...], bytes, bool]
"""What members' inputs have in common: name, datatype, shape of a row, parameters, whether data is nested."""


_request = msgspec.json.Decoder(InferRequest).decode
_ONE_ROW = Prepared((), 1, (b"",))


class OpenInferenceJson:
    """Tensors as JSON, flat or nested."""

    name = "open_inference_json"

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
        ident, tail, count = own_fields(request)
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
        if field(answer[1], BINARY_LENGTH) is not None:
            raise SplitMismatch("binary tensors were not asked for")
        return [(body, ()) for body in split_text(_cut, answer[0], members)]

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """One request for each row; see `Cutter.cut`."""
        heads, _ = prepared.frame
        columns = [
            cut_rows(rows, prepared.items, is_nested=nested)
            for rows, (*_, nested) in zip(prepared.payload, heads, strict=True)
        ]
        return [Prepared(prepared.key, 1, row, prepared.frame) for row in zip(*columns, strict=True)]

    def join(self, answers: Sequence[bytes]) -> bytes:
        """The rows of all in one answer; see `Cutter.join`."""
        return join_text(_joined, answers)


def _why(error: Exception, headers: Headers) -> str:
    """Why a body that was not understood is not merged."""
    if field(headers, BINARY_LENGTH) is not None:
        return "binary_tensors"
    return "form" if isinstance(error, msgspec.ValidationError) else "not_json"


def _rows_of(tensor: Input, items: int) -> tuple[bytes, _Kind, int]:
    """The bytes of all rows, what their kind is, and how many quotation marks the tensor has."""
    shape = tensor.shape
    check_shape(shape, items)
    data = bytes(tensor.data)
    nested, marks = fills(data, shape)
    extra = b""
    if tensor.parameters is not UNSET:
        extra = check_parameters(b',"parameters":%b' % tensor.parameters)
        marks += quotes(extra)
    # Four keys, a name and a datatype: a string has two marks, however its text is escaped.
    return data[1:-1], (tensor.name, tensor.datatype, tuple(shape[1:]), extra, nested), 12 + marks


def _tensor(kind: _Kind, items: int, rows: bytes) -> bytes:
    name, datatype, row_shape, extra, _ = kind
    encode = msgspec.json.encode
    return b'{"name":%b,"shape":[%d%b],"datatype":%b%b,"data":[%b]}' % (
        encode(name),
        items,
        size_list(row_shape),
        encode(datatype),
        extra,
        rows,
    )


def own_fields(request: Request, *, may_be_binary: bool = False) -> tuple[bytes, bytes, int]:
    """The caller's id, the fields that must be equal, and how many quotation marks both have."""
    ident, marks = b"", 0
    if request.id is not UNSET:
        ident = bytes(request.id)
        if not ident.startswith(b'"'):
            raise MergeRefused("form")
        marks = 2 + quotes(ident)
    tail = b""
    if request.parameters is not UNSET:
        tail = check_parameters(b',"parameters":%b' % request.parameters, may_be_binary=may_be_binary)
    if request.outputs is not UNSET:
        tail += check_parameters(b',"outputs":%b' % request.outputs, may_be_binary=may_be_binary)
    return ident, tail, marks + quotes(tail)


def _cut(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    frame, outputs = read_frame(body)
    total = sum(member.items for member in members)
    columns = [_rows_of_all(output, total, members) for output in outputs]
    writer = AnswerWriter(frame, outputs)
    return [
        writer.answer(member.items, member.ident, rows)
        for member, rows in zip(members, zip(*columns, strict=True), strict=True)
    ]


def _joined(answers: Sequence[bytes]) -> bytes:
    parts = [read_frame(answer) for answer in answers]
    forms = {(frame.form, tuple(map(_form, outputs))) for frame, outputs in parts}
    if len(forms) != 1:
        raise SplitMismatch("answers to one item each do not fit together")
    frame, outputs = parts[0]
    columns = zip(*[[_inside(output) for output in found] for _, found in parts], strict=True)
    return AnswerWriter(frame, outputs).answer(len(parts), b"", [b",".join(column) for column in columns])


def _form(output: OutputFrame) -> tuple[object, bool]:
    """What the one row of an output stands in, and whether it is nested."""
    _rows_of_all(output, 1, (_ONE_ROW,))
    return output.form, is_nested(_json(output), output.shape)


def _inside(output: OutputFrame) -> bytes:
    return _json(output)[1:-1]


def _json(output: OutputFrame) -> bytes:
    if output.data is None:
        raise SplitMismatch("binary tensors were not asked for")
    return output.data


def _rows_of_all(output: OutputFrame, total: int, members: Sequence[Prepared]) -> list[bytes | Raw]:
    """The rows of each member."""
    output.check(total)
    return cut_json(_json(output), output.shape, members)
