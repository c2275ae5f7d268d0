"""Tensors by column: ``{"inputs": T}`` or ``{"inputs": {name: T, …}}``, T a list with one row for each item.

Theory of operation
-------------------
Each named tensor is joined along its first dimension, and so is the answer cut: under its name
(``outputs``) stands one tensor or an object of them, each with one row for each item. All tensors of a
request must have the same number of rows; their rows' shapes and kinds are part of the key, as are all
other fields.

A tensor without a batch dimension (a temperature, a threshold) cannot be told from one with it when a
request has one row. Such a value is usually a vector of length one beside tensors of higher rank, so a
request that mixes vectors with those is not merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Raw

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.json_bytes import pieces, quotes, rows_signature, split_text
from proxy.batching.codecs.objects import (
    array,
    check_count,
    elements,
    plain_fields,
    read_answer,
    read_request,
    tail,
    total_of,
)
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("ColumnCodec", "ColumnFrame")

_UNNAMED = ""
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.encode


class ColumnFrame(NamedTuple):
    """What the members of a batch have in common: their tensors' names, or one unnamed, and other fields."""

    names: tuple[str, ...]
    is_named: bool
    tail: bytes


class ColumnCodec:
    """``{"inputs": …}`` in, ``{answer: …}`` out."""

    def __init__(self, name: str, answer: str) -> None:
        self.name = name
        self._answer = answer

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows of every tensor; see `Codec.prepare`."""
        fields = read_request(body)
        inputs = fields.pop("inputs", None)
        if inputs is None or "instances" in fields:
            raise MergeRefused("form")
        is_named = inputs.startswith(b"{")
        columns = _named(inputs) if is_named else {_UNNAMED: elements(inputs)}
        if (
            len({len(rows) for rows in columns.values()}) > 1
            or len({_is_vector(r) for r in columns.values()}) > 1
        ):
            raise MergeRefused("batch_dimension")
        payload = [b",".join(rows) for rows in columns.values()]
        frame = ColumnFrame(tuple(columns), is_named, tail(fields))
        signatures = [
            rows_signature(rows, joined) for rows, joined in zip(columns.values(), payload, strict=True)
        ]
        items = len(next(iter(columns.values())))
        return Prepared((frame, tuple(signatures)), items, tuple(payload), frame)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """All rows of each tensor in one list; see `Codec.merge`."""
        names, is_named, rest = members[0].frame
        columns = [b"[%b]" % b",".join([m.payload[index] for m in members]) for index in range(len(names))]
        inputs = columns[0]
        if is_named:
            named = zip(names, columns, strict=True)
            inputs = b"{%b}" % b",".join([b"%b:%b" % (_encode(name), column) for name, column in named])
        return b'{"inputs":%b%b}' % (inputs, rest), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The rows of each member; see `Codec.split`."""
        return [(body, ()) for body in split_text(self._cut, answer[0], members)]

    def _cut(self, body: bytes, members: Sequence[Prepared]) -> list[bytes]:
        fields = read_answer(body)
        outputs = fields.pop(self._answer, None)
        if outputs is None:
            raise SplitMismatch(f"no {self._answer} in the answer")
        opening, end = b'{"%b":' % self._answer.encode(), plain_fields(fields) + b"}"
        if not outputs.startswith(b"{"):
            return [b"%b[%b]%b" % (opening, rows, end) for rows in _cut_column(outputs, members)]
        columns = [
            (_encode(name), _cut_column(bytes(column), members)) for name, column in _fields(outputs).items()
        ]
        if not columns:
            raise SplitMismatch("no tensors in the answer")
        parts = []
        for index in range(len(members)):
            named = b",".join([b"%b:[%b]" % (name, rows[index]) for name, rows in columns])
            parts.append(b"%b{%b}%b" % (opening, named, end))
        return parts


def _named(inputs: bytes) -> dict[str, list[Raw]]:
    fields = _fields(inputs)
    if quotes(inputs) != sum(2 + quotes(bytes(value)) for value in fields.values()):
        raise MergeRefused("duplicate_keys")
    if not fields:
        raise MergeRefused("empty")
    return {name: elements(bytes(value)) for name, value in fields.items()}


def _is_vector(rows: list[Raw]) -> bool:
    """Whether a row is one value (an object such as ``{"b64": …}`` is one)."""
    return not bytes(rows[0]).startswith(b"[")


def _cut_column(column: bytes, members: Sequence[Prepared]) -> list[bytes | Raw]:
    rows = array(column)
    check_count(rows, total_of(members))
    return pieces(rows, members)
