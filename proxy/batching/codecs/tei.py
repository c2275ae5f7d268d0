"""Text Embeddings Inference: ``/embed`` and its kin, ``/predict``, ``/rerank``.

Theory of operation
-------------------
*Embed* (also ``/embed_sparse``, ``/embed_all``): ``inputs`` is a text, a list of texts, a list of token
numbers (which is **one** input) or a list of such lists. The answer is always a list with one element for
each input, even for a single text.

*Predict*: ``inputs`` is a text (also as a list of one), a **pair** as a list of two texts, or a list of
such lists. Two texts in a list are one item; reading them as two would give wrong answers to a right
question. A single item is answered by its list of labels, a list of items by a list of those, so an answer
is wrapped only for those who sent a list.

*Rerank*: calls with the same ``query`` may be joined, since each text is scored by itself. The answer is
sorted by score and names texts by ``index``; each member gets the entries of its own texts, in their order,
with its own numbering.

All other fields (``truncate``, ``normalize``, …) must be equal. Texts and token numbers never share a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.json_bytes import pieces, split_text
from proxy.batching.codecs.objects import array, check_count, elements, read_request, tail, total_of
from proxy.batching.codecs.texts import inputs_of
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.exchange import Headers

__all__ = ("TeiEmbed", "TeiPredict", "TeiRerank")


class TeiEmbed:
    """``{"inputs": …}`` in, a list of embeddings out."""

    name = "tei_embed"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        fields = read_request(body)
        inputs = inputs_of(fields.pop("inputs", b""))
        rest = tail(fields)
        return Prepared((inputs.kind, rest), inputs.items, (inputs.payload,), rest)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return _merged(members)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return [(body, ()) for body in split_text(_cut, answer[0], members)]


class TeiPredict:
    """``{"inputs": …}`` in, labels with scores out."""

    name = "tei_predict"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        fields = read_request(body)
        width, count, payload, is_list = _predict_items(fields.pop("inputs", b""))
        rest = tail(fields)
        manner = b"list" if is_list else b""
        return Prepared((width, rest), count, (payload,), rest, manner=manner)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return _merged(members)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        parts = split_text(_cut, answer[0], members)
        # Everybody's part is a list of answers; whoever asked about one item, and not in a list, gets that
        # one.
        return [
            (part if member.manner else part[1:-1], ()) for part, member in zip(parts, members, strict=True)
        ]


class _Ranked(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    index: int
    score: Raw
    text: Raw | msgspec.UnsetType = msgspec.UNSET


_ranked = msgspec.json.Decoder(list[_Ranked]).decode
_texts = msgspec.json.Decoder(list[str]).decode


class TeiRerank:
    """``{"query": …, "texts": […]}`` in, scores by index out."""

    name = "tei_rerank"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        fields = read_request(body)
        texts = fields.pop("texts", b"")
        if "query" not in fields or set(map(_first, elements(texts))) != {b'"'}:
            raise MergeRefused("form")
        rest = tail(fields)
        return Prepared(rest, len(elements(texts)), (texts[1:-1],), rest)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        texts = b",".join([member.payload[0] for member in members])
        return b'{"texts":[%b]%b}' % (texts, members[0].frame), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return [(body, ()) for body in split_text(_cut_ranks, answer[0], members)]


def _merged(members: Sequence[Prepared]) -> Part:
    inputs = b",".join([member.payload[0] for member in members])
    return b'{"inputs":[%b]%b}' % (inputs, members[0].frame), ()


def _cut(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    rows = array(body)
    check_count(rows, total_of(members))
    return [b"[%b]" % piece for piece in pieces(rows, members)]


def _first(value: Raw) -> bytes:
    return bytes(value)[:1]


def _predict_items(inputs: bytes) -> tuple[int, int, bytes, bool]:
    """Texts in an item (1, or 2 for pairs), the number of items, the items, and if they came in a list."""
    if inputs.startswith(b'"'):
        return 1, 1, b"[%b]" % inputs, False
    found = elements(inputs)
    if all(_first(one) == b'"' for one in found):
        if len(found) > 2:
            raise MergeRefused("form")
        return len(found), 1, inputs, False
    widths = {_width(bytes(one)) for one in found}
    if len(widths) != 1:
        raise MergeRefused("form")
    return widths.pop(), len(found), inputs[1:-1], True


def _width(item: bytes) -> int:
    if not item.startswith(b"["):
        raise MergeRefused("form")
    texts = elements(item)
    if len(texts) > 2 or any(_first(text) != b'"' for text in texts):
        raise MergeRefused("form")
    return len(texts)


def _cut_ranks(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    try:
        entries = _ranked(body)
    except msgspec.ValidationError as error:
        raise SplitMismatch(f"not a ranking: {error}") from None
    total = total_of(members)
    if sorted(entry.index for entry in entries) != list(range(total)):
        raise SplitMismatch(f"{len(entries)} ranks for {total} texts")
    owner = [(number, offset) for number, member in enumerate(members) for offset in range(member.items)]
    ranks: list[list[_Ranked]] = [[] for _ in members]
    for entry in entries:
        number, entry.index = owner[entry.index]
        ranks[number].append(entry)
    return [msgspec.json.encode(mine) for mine in ranks]
