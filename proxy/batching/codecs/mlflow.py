"""MLflow's scoring server: ``POST /invocations`` in its four forms.

Theory of operation
-------------------
A request has exactly one of four payloads, and ``params``, which must be equal:

* ``dataframe_split``: ``{"columns": […], "data": [[…], …]}``, joined row by row under equal columns. An
  ``index`` is left out if it only counts the rows, as exporters write it; any other says something and is
  not merged.
* ``dataframe_records``: a list of objects with equal keys in equal order.
* ``instances``: a list, as in `rows`.
* ``inputs``: tensors by column, as in `columns`.

The server reads the first two into a table whose columns each get one type for the whole batch: one
caller's null would turn another's integers into fractions. Rows of a table share a call only if each column
would have had the same type alone, so the key holds the kinds that occur in each column.

The answer is ``{"predictions": …}`` with a list of one element for each row; any other answer is not cut.
Forms for language models (``messages``, ``prompt``, ``input``) are one request each and are not merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.columns import ColumnCodec, ColumnFrame
from proxy.batching.codecs.json_bytes import NOT_JSON, quotes, shape_of
from proxy.batching.codecs.objects import elements, read_request, tail
from proxy.batching.codecs.rows import RowCodec
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.exchange import Headers

__all__ = ("Mlflow",)


_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class _TableFrame(NamedTuple):
    """What the members of a batch have in common: what stands before the rows, and after them."""

    opening: bytes
    ending: bytes


class Mlflow:
    """Tables, rows or tensors in, ``{"predictions": […]}`` out."""

    name = "mlflow"

    def __init__(self) -> None:
        self._rows = RowCodec("mlflow_instances", "instances", ("predictions",))
        self._columns = ColumnCodec("mlflow_inputs", "predictions")

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        fields = read_request(body)
        forms = [form for form in _FORMS if form in fields]
        if forms == ["instances"]:
            return self._rows.prepare(body, headers)
        if forms == ["inputs"]:
            return self._columns.prepare(body, headers)
        if forms == ["dataframe_records"]:
            return _records(fields)
        if forms == ["dataframe_split"]:
            return _split(fields)
        raise MergeRefused("form")

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        frame = members[0].frame
        if isinstance(frame, _TableFrame):
            rows = b",".join([member.payload[0] for member in members])
            return b"".join((frame.opening, rows, frame.ending)), ()
        return self._columns.merge(members) if isinstance(frame, ColumnFrame) else self._rows.merge(members)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return self._rows.split(answer, members)


def _records(fields: dict[str, bytes]) -> Prepared:
    rows = elements(fields.pop("dataframe_records"))
    records = [_decode(row) for row in rows]
    keys = {tuple(record) if isinstance(record, dict) else () for record in records}
    names = keys.pop()
    if keys or not names:
        raise MergeRefused("ragged_rows")
    kinds = _kinds(record.values() for record in records if isinstance(record, dict))
    frame = _TableFrame(b'{"dataframe_records":[', b"]%b}" % tail(fields))
    return Prepared((frame, names, kinds), len(rows), (b",".join(rows),), frame)


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    data: msgspec.Raw
    columns: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    index: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_split = msgspec.json.Decoder(_Split).decode


def _split(fields: dict[str, bytes]) -> Prepared:
    text = fields.pop("dataframe_split")
    try:
        table = _decode_split(text)
    except NOT_JSON:
        raise MergeRefused("form") from None
    given = [bytes(value) for value in (table.data, table.columns, table.index) if value is not msgspec.UNSET]
    if quotes(text) != sum(2 + quotes(value) for value in given):
        raise MergeRefused("duplicate_keys")
    rows = elements(bytes(table.data))
    cells = [_decode(row) for row in rows]
    if (
        any(not isinstance(row, list) for row in cells)
        or len({len(row) for row in cells if isinstance(row, list)}) != 1
    ):
        raise MergeRefused("ragged_rows")
    if table.index is not msgspec.UNSET and _decode(table.index) != list(range(len(rows))):
        raise MergeRefused("index")
    columns = b"" if table.columns is msgspec.UNSET else b'"columns":%b,' % table.columns
    frame = _TableFrame(b'{"dataframe_split":{%b"data":[' % columns, b"]}%b}" % tail(fields))
    kinds = _kinds(row for row in cells if isinstance(row, list))
    return Prepared((frame, kinds), len(rows), (b",".join(rows),), frame)


def _decode(value: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(value)
    except NOT_JSON:  # a lone surrogate
        raise MergeRefused("not_json") from None


def _kinds(rows: Iterable[Iterable[object]]) -> tuple[frozenset[str], ...]:
    """The kinds of value in each column; a column with fractions makes fractions of its integers anyway."""
    columns = [{shape_of(value) for value in column} for column in zip(*rows, strict=True)]
    return tuple(frozenset(kinds - {"i"} if "f" in kinds else kinds) for kinds in columns)
