"""KServe V1: ``POST /v1/models/{m}:predict`` with ``{"instances": [x, …]}``.

Theory of operation
-------------------
An item is one element of ``instances``. Members may share a call when their instances have the same shape
and kind (see `json_bytes`) and every other top-level field (``signature_name``, ``parameters``, …) is spelt
alike; such fields are sent once.

The answer is ``{"predictions": [y, …]}``: element i belongs to instance i, and the list must have exactly
as many elements as were asked. Other fields of the answer are copied to each member, but only scalars: a
list or an object beside the predictions may hold one member's data, and cutting it by guess would show it
to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.json_bytes import (
    NOT_JSON,
    check_text,
    join_text,
    pieces,
    quotes,
    rows_signature,
    split_text,
)
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("KServeV1",)


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The usual request: nothing but instances."""

    instances: list[msgspec.Raw]


_plain = msgspec.json.Decoder(_Plain).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


class KServeV1:
    """``{"instances": […]}`` in, ``{"predictions": […]}`` out."""

    name = "kserve_v1"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows and their signature; see `Codec.prepare`."""
        try:
            rows, rest = _plain(body).instances, b""
            marks = 2
        except msgspec.ValidationError:
            rows, rest, marks = _with_rest(body)
        except NOT_JSON:
            raise MergeRefused("not_json") from None
        if not rows:
            raise MergeRefused("empty")
        payload = b",".join(rows)
        if quotes(body) != marks + quotes(payload):
            raise MergeRefused("duplicate_keys")
        check_text(body)
        return Prepared((rows_signature(rows, payload), rest), len(rows), (payload,), rest)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """All instances in one list; see `Codec.merge`."""
        payload = b",".join([member.payload[0] for member in members])
        return b'{"instances":[%b]%b}' % (payload, members[0].frame), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The predictions of each member; see `Codec.split`."""
        return [(body, ()) for body in split_text(_cut, answer[0], members)]

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """One request for each instance; see `Cutter.cut`."""
        rows = _rows(b"[%b]" % prepared.payload[0])
        return [Prepared(prepared.key, 1, (bytes(row),), prepared.frame) for row in rows]

    def join(self, answers: Sequence[bytes]) -> bytes:
        """All predictions in one list; see `Cutter.join`."""
        return join_text(_joined, answers)


def _joined(answers: Sequence[bytes]) -> bytes:
    parts = [_predictions(answer) for answer in answers]
    if any(len(rows) != 1 or rest != parts[0][1] for rows, rest in parts):
        raise SplitMismatch("answers to one item each do not fit together")
    return b'{"predictions":[%b]%b}' % (b",".join([rows[0] for rows, _ in parts]), parts[0][1])


def _cut(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    rows, rest = _predictions(body)
    total = sum(member.items for member in members)
    if len(rows) != total:
        raise SplitMismatch(f"{len(rows)} predictions for {total} instances")
    end = b"]" + rest + b"}"
    return [b"".join((b'{"predictions":[', piece, end)) for piece in pieces(rows, members)]


def _with_rest(body: bytes) -> tuple[list[msgspec.Raw], bytes, int]:
    """Instances, the other fields ready to follow them, and how many quotation marks the frame has."""
    try:
        fields = _object(body)
        rows = _rows(fields.pop("instances"))
    except (KeyError, msgspec.ValidationError):
        raise MergeRefused("form") from None
    except NOT_JSON:
        raise MergeRefused("not_json") from None
    if "inputs" in fields:
        raise MergeRefused("form")  # row and columnar form at once: only the backend knows which counts
    rest = b"".join([b",%b:%b" % (msgspec.json.encode(key), fields[key]) for key in sorted(fields)])
    return rows, rest, 2 + sum(2 + quotes(bytes(value)) for value in fields.values())


class _Answer(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The usual answer: nothing but predictions."""

    predictions: list[msgspec.Raw]


_answer = msgspec.json.Decoder(_Answer).decode


def _predictions(body: bytes) -> tuple[list[msgspec.Raw], bytes]:
    """The predictions, and the other fields ready to follow them; raises one of `NOT_JSON`."""
    try:
        return _answer(body).predictions, b""
    except msgspec.ValidationError:
        fields = _object(body)
    if "predictions" not in fields:
        raise SplitMismatch("no predictions in the answer")
    rows = _rows(fields.pop("predictions"))
    if any(bytes(value)[:1] in {b"[", b"{"} for value in fields.values()):
        raise SplitMismatch(f"cannot tell whose {sorted(fields)} are")
    return rows, b"".join([b",%b:%b" % (msgspec.json.encode(key), fields[key]) for key in fields])
