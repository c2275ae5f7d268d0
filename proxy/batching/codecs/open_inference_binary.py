"""Open Inference (V2) REST with binary tensors: a JSON head, then the raw bytes of some tensors.

Theory of operation
-------------------
``Inference-Header-Content-Length`` says how long the head is; without it everything is head. An input (or
output) whose parameters have ``binary_data_size`` has no ``data``: its bytes follow the head, in the order
in which the tensors are named. Tensors with and without may stand side by side in one message, and a
request may ask for binary outputs without sending any.

Members may share a call under the same conditions as with JSON tensors, and if the same inputs are binary.
The merged message has each input's bytes of all members one after the other; sizes, shapes and the length
of the head are written anew, on the way back as well. Sizes are proved on both ways: a tensor has exactly
the bytes of its shape.

A length of 0 announces a raw tensor without any head; such a request has no rows to join and is not merged.
"""

from __future__ import annotations

import math
from itertools import compress
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.infer_answers import AnswerWriter, OutputFrame, read_frame
from proxy.batching.codecs.infer_requests import Request
from proxy.batching.codecs.json_bytes import NOT_JSON, check_text, quotes, unveil, veil
from proxy.batching.codecs.open_inference import BINARY_LENGTH, own_fields
from proxy.batching.codecs.tensors import (
    check_parameters,
    check_shape,
    cut_bytes,
    cut_json,
    fills,
    is_whole,
    size_list,
)
from proxy.errors import MergeRefused, SplitMismatch
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("BinaryFrame", "OpenInferenceBinary")

_SIZE = "binary_data_size"
_LENGTH_FIELD = b"Inference-Header-Content-Length"

_Form = Literal["flat", "nested", "binary"]
_Kind = tuple[str, str, tuple[int, ...], bytes, _Form]
"""What members' inputs have in common: name, datatype, shape of a row, parameters (`,"k":v` each), form."""


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: dict[str, Raw] | UnsetType = UNSET


class _Request(Request, forbid_unknown_fields=True, gc=False, kw_only=True):
    inputs: list[_Tensor]


_request = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.encode


class BinaryFrame(NamedTuple):
    """What the members of a batch have in common: their inputs, and the fields beside them."""

    kinds: tuple[_Kind, ...]
    tail: bytes


class OpenInferenceBinary:
    """Tensors as bytes after a JSON head, or as JSON in it."""

    name = "open_inference_binary"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows of every input, proved to fill their shapes; see `Codec.prepare`."""
        head = body[: _head_length(body, headers)]
        try:
            request = _request(head)
        except msgspec.ValidationError:
            raise MergeRefused("form") from None
        except NOT_JSON:
            raise MergeRefused("not_json") from None
        if not request.inputs:
            raise MergeRefused("empty")
        items = request.inputs[0].shape[0] if request.inputs[0].shape else 0
        payload, kinds, marks = [], [], 2
        position = len(head)
        for tensor in request.inputs:
            check_shape(tensor.shape, items)
            extra, size, count = _parameters(tensor)
            check_parameters(extra)
            if size is None:
                rows, form, data_marks = _json_rows(tensor)
            else:
                rows, form, data_marks = (
                    _binary_rows(tensor, body[position : position + size], size),
                    "binary",
                    0,
                )
                position += size
            payload.append(rows)
            kinds.append((tensor.name, tensor.datatype, tuple(tensor.shape[1:]), extra, form))
            marks += 10 + count + data_marks  # three keys, a name and a datatype
        ident, tail, count = own_fields(request, may_be_binary=True)
        if position != len(body):
            raise MergeRefused("form")
        if quotes(head) != marks + count:
            raise MergeRefused("duplicate_keys")
        check_text(head)
        key = BinaryFrame(tuple(kinds), tail)
        return Prepared(key, items, tuple(payload), key, ident)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """One request with the rows of all; see `Codec.merge`."""
        kinds, tail = members[0].frame
        items = sum(member.items for member in members)
        tensors, blobs = [], []
        for index, kind in enumerate(kinds):
            payload = [member.payload[index] for member in members]
            if kind[4] == "binary":
                blobs.append(b"".join(payload))
                tensors.append(_tensor(kind, items, b"%d" % len(blobs[-1])))
            else:
                tensors.append(_tensor(kind, items, b",".join(payload)))
        head = b'{"inputs":[%b]%b}' % (b",".join(tensors), tail)
        return _message(head, blobs)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The rows of each member; see `Codec.split`."""
        body, headers = answer
        length = field(headers, BINARY_LENGTH)
        size = len(body) if length is None else int(length) if length.isdigit() else -1
        if not 0 < size <= len(body):
            raise SplitMismatch("the answer's head has no valid length")
        head, blobs = body[:size], body[size:]
        try:
            return [_message(*part) for part in _cut(head, blobs, members)]
        except NOT_JSON as error:
            try:
                return [_message(unveil(part), rows) for part, rows in _cut(veil(head), blobs, members)]
            except (ValueError, *NOT_JSON):
                raise SplitMismatch(f"the answer is not usable JSON: {error}") from None


def _message(head: bytes, blobs: Sequence[bytes]) -> Part:
    if not blobs:
        return head, ()
    return b"".join((head, *blobs)), ((_LENGTH_FIELD, b"%d" % len(head)),)


# --------------------------------------------------------------------- requests
def _head_length(body: bytes, headers: Headers) -> int:
    length = field(headers, BINARY_LENGTH)
    if length is None:
        return len(body)
    if not length.isdigit() or int(length) > len(body):
        raise MergeRefused("form")
    if not int(length):
        raise MergeRefused("raw_tensor")
    return int(length)


def _parameters(tensor: _Tensor) -> tuple[bytes, int | None, int]:
    """A tensor's other parameters, its binary size (-1: not a number), and the quotation marks of all."""
    if tensor.parameters is UNSET:
        return b"", None, 0
    fields = dict(tensor.parameters)
    marks = 2 + sum(2 + quotes(bytes(value)) for value in fields.values())
    size = fields.pop(_SIZE, None)
    extra = b"".join([b",%b:%b" % (_encode(name), fields[name]) for name in sorted(fields)])
    if size is None:
        return extra, None, marks
    digits = bytes(size)
    return extra, int(digits) if digits.isdigit() else -1, marks


def _json_rows(tensor: _Tensor) -> tuple[bytes, _Form, int]:
    if tensor.data is UNSET:
        raise MergeRefused("form")
    data = bytes(tensor.data)
    is_nested, marks = fills(data, tensor.shape)
    return data[1:-1], "nested" if is_nested else "flat", 2 + marks


def _binary_rows(tensor: _Tensor, rows: bytes, size: int) -> bytes:
    if tensor.data is not UNSET or len(rows) != size:
        raise MergeRefused("form")  # two forms at once, or bytes that are not there
    if not is_whole(rows, tensor.datatype, math.prod(tensor.shape)):
        raise MergeRefused("shape")
    return rows


def _tensor(kind: _Kind, items: int, content: bytes) -> bytes:
    """One tensor in a head: `content` is its rows as JSON, or its binary size."""
    before, after, end = _around_rows(*kind)
    return b"".join((before, b"%d" % items, after, content, end))


def _around_rows(
    name: str, datatype: str, row_shape: tuple[int, ...], extra: bytes, form: _Form
) -> tuple[bytes, bytes, bytes]:
    """What stands before the row count, between it and the content, and after the content."""
    before = b'{"name":%b,"shape":[' % _encode(name)
    typed = b'%b],"datatype":%b' % (size_list(row_shape), _encode(datatype))
    if form == "binary":
        return before, typed + b',"parameters":{"binary_data_size":', extra + b"}}"
    parameters = b',"parameters":{%b}' % extra[1:] if extra else b""
    return before, typed + parameters + b',"data":[', b"]}"


# ---------------------------------------------------------------------- answers
def _cut(head: bytes, blobs: bytes, members: Sequence[Prepared]) -> list[tuple[bytes, list[bytes]]]:
    """The head and the binary rows of each member's answer; raises one of `NOT_JSON`."""
    frame, outputs = read_frame(head)
    total = sum(member.items for member in members)
    columns = []
    for output in outputs:
        output.check(total)
        columns.append(_rows_of_all(output, blobs, members))
        blobs = blobs[output.size or 0 :]
    if blobs:
        raise SplitMismatch("the answer has bytes that belong to no output")
    writer = AnswerWriter(frame, outputs)
    is_binary = [output.size is not None for output in outputs]
    parts = []
    for member, rows in zip(members, zip(*columns, strict=True), strict=True):
        own = [bytes(content) for content in compress(rows, is_binary)]
        contents = [
            b"%d" % len(content) if size else content for content, size in zip(rows, is_binary, strict=True)
        ]
        parts.append((writer.answer(member.items, member.ident, contents), own))
    return parts


def _rows_of_all(output: OutputFrame, blobs: bytes, members: Sequence[Prepared]) -> Sequence[bytes | Raw]:
    """The rows of each member, as JSON or from the head of `blobs`."""
    if output.data is not None:
        return cut_json(output.data, output.shape, members)
    return cut_bytes(blobs[: output.size], output.datatype, output.stride, members)
