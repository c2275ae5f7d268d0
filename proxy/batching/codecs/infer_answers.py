"""Open Inference answers taken apart and written again, in the backend's own order of fields.

Theory of operation
-------------------
A client should not be able to tell whether its answer came alone or out of a batch, so a part is written
the way the backend wrote the whole: the same fields in the same order, with three places that differ
between members: the ``id``, and for each output the number of rows and its content (``data``, or the size
of binary data). A frame is a list of texts with holes at these places. Most members have as many rows as
others and no id of their own, so the texts are joined around the contents once for each such kind of member
(`AnswerWriter`), and a part is a copy of that list with the contents filled in.

Where the backend answered with an id of its own (some make one up when none was sent) the member's stands
in its place. Where it gave none, because none was sent, the member's comes first.

Fields that the protocol does not know may hold something of one member's: such an answer is not cut.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from proxy.batching.codecs.tensors import size_list
from proxy.errors import SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ("AnswerFrame", "AnswerWriter", "OutputFrame", "read_frame")

_FIELDS: Final = frozenset(("model_name", "model_version", "id", "parameters", "outputs"))
_OUTPUT_FIELDS: Final = frozenset(("name", "shape", "datatype", "parameters", "data"))
_SIZE: Final = "binary_data_size"
_OPENING: Final = b'"outputs":['

_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_outputs = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_shape = msgspec.json.Decoder(list[int]).decode
_encode = msgspec.json.encode


class AnswerFrame:
    """The fields of an answer in their order, with holes for the outputs and the id."""

    __slots__ = ("_ident_at", "_outputs_at", "_texts")

    def __init__(self, fields: Mapping[str, Raw]) -> None:
        names = list(fields) if "id" in fields else ["id", *fields]
        self._texts = [b"" if name in {"id", "outputs"} else _named(name, fields[name]) for name in names]
        self._ident_at = names.index("id")
        self._outputs_at = names.index("outputs")

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for answers that differ in their outputs and ids alone."""
        return tuple(self._texts), self._ident_at, self._outputs_at

    def around(self, ident: bytes) -> tuple[bytes, bytes]:
        """What stands before and after the outputs in the answer to the caller with this id, if any."""
        texts = self._texts.copy()
        texts[self._outputs_at] = _OPENING
        texts[self._ident_at] = b'"id":' + ident
        if not ident:
            del texts[self._ident_at]
        at = texts.index(_OPENING) + 1
        return b"{" + b",".join(texts[:at]), b"]" + b"".join([b"," + text for text in texts[at:]]) + b"}"


class OutputFrame:
    """The fields of one output in their order, with holes for the number of rows and the content.

    `size` is that of its binary data, None for an output whose `data` is JSON.
    """

    __slots__ = ("_content_at", "_items_at", "_texts", "data", "datatype", "name", "shape", "size")

    def __init__(self, fields: Mapping[str, Raw]) -> None:
        if not {"name", "shape", "datatype"} <= fields.keys() <= _OUTPUT_FIELDS:
            raise SplitMismatch(f"an output with the fields {sorted(fields)}")
        self.name = _text(fields["name"])
        self.datatype = _text(fields["datatype"])
        self.shape = _shape(fields["shape"])
        self.data = bytes(fields["data"]) if "data" in fields else None
        self.size: int | None = None
        self._texts: list[bytes] = [b"{"]
        self._items_at = self._content_at = 0
        for name, value in fields.items():
            self._add(name, value)
        self._texts[-1] += b"}"
        if not self._content_at:
            raise SplitMismatch(f"output {self.name} has no data")

    @property
    def stride(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape[1:])

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for outputs that differ in their rows alone."""
        return tuple(self._texts), self._items_at, self._content_at

    def check(self, items: int) -> None:
        """Raise `SplitMismatch` unless there is a row for each of `items`."""
        if not self.shape or self.shape[0] != items or min(self.shape) < 0:
            raise SplitMismatch(f"output {self.name} has shape {self.shape} for {items} items")

    def around(self, items: int) -> tuple[bytes, bytes]:
        """What stands before and after the content (the inside of ``data``, or the binary size) of so many
        rows."""
        texts = self._texts.copy()
        texts[self._items_at] = b"%d" % items
        at = self._content_at
        return b"".join(texts[:at]), b"".join(texts[at + 1 :])

    def _add(self, name: str, value: Raw) -> None:
        comma = b"," if len(self._texts) > 1 or self._texts[-1] != b"{" else b""
        if name == "shape":
            self._items_at = self._hole(comma + b'"shape":[', size_list(self.shape[1:]) + b"]")
        elif name == "data":
            self._content_at = self._hole(comma + b'"data":[', b"]")
        elif name == "parameters":
            self._add_parameters(comma, value)
        else:
            self._texts[-1] += comma + _named(name, value)

    def _add_parameters(self, comma: bytes, value: Raw) -> None:
        parameters = _fields(value)
        size = parameters.get(_SIZE)
        if size is None:
            self._texts[-1] += comma + _named("parameters", value)
            return
        digits = bytes(size)
        if not digits.isdigit() or self.data is not None:
            raise SplitMismatch(f"output {self.name} has an unusable {_SIZE}")
        self.size = int(digits)
        names = list(parameters)
        at = names.index(_SIZE)
        before = b"".join([_named(name, parameters[name]) + b"," for name in names[:at]])
        after = b"".join([b"," + _named(name, parameters[name]) for name in names[at + 1 :]])
        self._content_at = self._hole(comma + b'"parameters":{%b"binary_data_size":' % before, after + b"}")

    def _hole(self, before: bytes, after: bytes) -> int:
        self._texts[-1] += before
        self._texts += [b"", after]
        return len(self._texts) - 2


class AnswerWriter:
    """Writes the members' answers in the form of the whole one."""

    __slots__ = ("_frame", "_known", "_outputs")

    def __init__(self, frame: AnswerFrame, outputs: Sequence[OutputFrame]) -> None:
        self._frame = frame
        self._outputs = outputs
        self._known: dict[tuple[int, bytes], list[bytes]] = {}

    def answer(self, items: int, ident: bytes, contents: Iterable[bytes | Raw]) -> bytes:
        """The answer with so many rows to the caller with this id; `contents` is one for each output."""
        around = self._known.get((items, ident))
        if around is None:
            around = self._known[items, ident] = self._around(items, ident)
        texts: list[bytes | Raw] = [*around]
        texts[1::2] = contents
        return b"".join(texts)

    def _around(self, items: int, ident: bytes) -> list[bytes]:
        """What stands around the contents, with a hole at every second place."""
        before, after = self._frame.around(ident)
        texts = [before]
        for output in self._outputs:
            opening, closing = output.around(items)
            texts[-1] += opening
            texts += [b"", closing + b","]
        texts[-1] = texts[-1].removesuffix(b",") + after
        return texts


def read_frame(head: bytes) -> tuple[AnswerFrame, list[OutputFrame]]:
    """The answer `head` and its outputs, at least one; raises `SplitMismatch`, or one of `NOT_JSON`."""
    try:
        fields = _fields(head)
        if not {"outputs"} <= fields.keys() <= _FIELDS:
            raise SplitMismatch(f"an answer with the fields {sorted(fields)}")
        outputs = [OutputFrame(output) for output in _outputs(fields["outputs"])]
    except msgspec.ValidationError as error:
        raise SplitMismatch(f"not an inference response: {error}") from None
    if not outputs:
        raise SplitMismatch("no outputs in the answer")
    return AnswerFrame(fields), outputs


def _named(name: str, value: Raw) -> bytes:
    return b"%b:%b" % (_encode(name), value)


def _text(value: Raw) -> str:
    return msgspec.json.decode(value, type=str)
