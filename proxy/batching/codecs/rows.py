"""One list in, one list out: the form of KServe V1 and its relatives.

Theory of operation
-------------------
An item is one element of a list in the request (``instances``). Members may share a call when their
elements have the same shape and kind (see `json_bytes`) and every other field (``signature_name``,
``parameters``, …) is spelt alike; such fields are sent once.

The answer has a list under a known name (``predictions``): element i belongs to item i, and there must be
exactly as many elements as were asked about. Other fields are copied to each member, in the backend's
order, if they are plain values.

Nearly every message has the one list and nothing else, which a typed decoder reads without building a
dictionary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

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
from proxy.batching.codecs.objects import (
    array,
    check_count,
    elements,
    list_decoder,
    plain_fields,
    read_answer,
    read_request,
    tail,
    total_of,
)
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from proxy.exchange import Headers

__all__ = ("RowCodec",)

_rows = msgspec.json.Decoder(list[Raw]).decode


class RowCodec:
    """``{ask: […]}`` in, ``{answer: […]}`` out, for the first of `answers` that the backend uses.

    `excluded` names fields that mean another form: a request that has both is left to the backend.
    """

    def __init__(self, name: str, ask: str, answers: tuple[str, ...], excluded: Collection[str] = ()) -> None:
        self.name = name
        self._ask = ask
        self._answers = answers
        self._excluded = excluded
        self._opening = b'{"%b":[' % ask.encode()
        self._least_bytes = len(self._opening) + len(b"]}")
        self._plain_request = list_decoder(ask)
        self._plain_answer = list_decoder(answers[0])

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows and their signature; see `Codec.prepare`."""
        try:
            rows, rest = self._plain_request(body), b""
        except msgspec.ValidationError:
            return self._prepare_unusual(body)
        except NOT_JSON:
            raise MergeRefused("not_json") from None
        if not rows:
            raise MergeRefused("empty")
        payload = b",".join(rows) if len(rows) > 1 else bytes(rows[0])
        # A body that is no longer than it must be has nothing else in it, so its marks need no counting.
        if len(body) != self._least_bytes + len(payload) and quotes(body) != 2 + quotes(payload):
            raise MergeRefused("duplicate_keys")
        if not body.isascii():
            check_text(body)
        return Prepared((rows_signature(rows, payload), rest), len(rows), (payload,), rest)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """All rows in one list; see `Codec.merge`."""
        payload = b",".join([member.payload[0] for member in members])
        return b"".join((self._opening, payload, b"]", members[0].frame, b"}")), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The rows of each member; see `Codec.split`."""
        return [(body, ()) for body in split_text(self._cut, answer[0], members)]

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """One request for each row; see `Cutter.cut`."""
        rows = _rows(b"[%b]" % prepared.payload[0])
        return [Prepared(prepared.key, 1, (bytes(row),), prepared.frame) for row in rows]

    def join(self, answers: Sequence[bytes]) -> bytes:
        """All rows in one list; see `Cutter.join`."""
        return join_text(self._joined, answers)

    def _prepare_unusual(self, body: bytes) -> Prepared:
        fields = read_request(body)
        if self._ask not in fields or any(name in fields for name in self._excluded):
            raise MergeRefused("form")
        rows = elements(fields.pop(self._ask))
        payload = b",".join(rows)
        rest = tail(fields)
        return Prepared((rows_signature(rows, payload), rest), len(rows), (payload,), rest)

    def _cut(self, body: bytes, members: Sequence[Prepared]) -> list[bytes]:
        rows, opening, end = self._read_answer(body)
        check_count(rows, total_of(members))
        return [b"".join((opening, piece, end)) for piece in pieces(rows, members)]

    def _joined(self, answers: Sequence[bytes]) -> bytes:
        parts = [self._read_answer(answer) for answer in answers]
        _, opening, end = parts[0]
        if any(len(rows) != 1 or (before, after) != (opening, end) for rows, before, after in parts):
            raise SplitMismatch("answers to one item each do not fit together")
        return b"".join((opening, b",".join([rows[0] for rows, _, _ in parts]), end))

    def _read_answer(self, body: bytes) -> tuple[list[Raw], bytes, bytes]:
        """The rows of an answer, and what goes before and after them; raises one of `NOT_JSON`."""
        try:
            return self._plain_answer(body), b'{"%b":[' % self._answers[0].encode(), b"]}"
        except msgspec.ValidationError:
            fields = read_answer(body)
        name = next((name for name in self._answers if name in fields), None)
        if name is None:
            raise SplitMismatch(f"no {self._answers[0]} in the answer")
        at = list(fields).index(name)
        before = plain_fields(dict(list(fields.items())[:at]))
        after = plain_fields(dict(list(fields.items())[at + 1 :]))
        opening = b'{%b"%b":[' % (before[1:] + b"," if before else b"", name.encode())
        return array(fields[name]), opening, b"]%b}" % after
