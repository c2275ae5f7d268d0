"""TensorFlow Serving REST: rows, columns and examples.

Theory of operation
-------------------
``:predict`` has two forms, and the answer follows the question's:

* *Rows*, ``{"instances": […]}`` answered by ``{"predictions": […]}``, as in `rows`. The server refuses a
  list that mixes objects and plain values, or objects of different keys; shapes are part of the key, so
  none is formed.
* *Columns*, ``{"inputs": …}`` answered by ``{"outputs": …}``, as in `columns`.

``:classify`` and ``:regress`` have ``{"examples": […], "context": …}`` answered by ``{"results": […]}``;
the context must be equal.

Answers may hold the bare tokens NaN and Infinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.batching.codecs.columns import ColumnCodec, ColumnFrame
from proxy.batching.codecs.rows import RowCodec
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Part, Prepared
    from proxy.exchange import Headers

__all__ = ("TfServing", "TfServingExamples")


class TfServing:
    """``:predict`` by rows or by columns."""

    name = "tf_serving"

    def __init__(self) -> None:
        self._rows = RowCodec("tf_serving_rows", "instances", ("predictions",), excluded=("inputs",))
        self._columns = ColumnCodec("tf_serving_columns", "outputs")

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        try:
            return self._rows.prepare(body, headers)
        except MergeRefused as refusal:
            if refusal.why != "form":
                raise
        return self._columns.prepare(body, headers)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return self._codec(members).merge(members)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return self._codec(members).split(answer, members)

    def _codec(self, members: Sequence[Prepared]) -> RowCodec | ColumnCodec:
        return self._columns if isinstance(members[0].frame, ColumnFrame) else self._rows


class TfServingExamples(RowCodec):
    """``:classify`` and ``:regress``; published examples of the answer say ``result``."""

    def __init__(self) -> None:
        super().__init__("tf_serving_examples", "examples", ("results", "result"))
