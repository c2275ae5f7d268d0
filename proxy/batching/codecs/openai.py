"""OpenAI's embeddings and completions.

Theory of operation
-------------------
*Embeddings*: ``input`` in any of its spellings (see `texts`); ``model``, ``encoding_format``,
``dimensions``, ``user`` and all other fields must be equal. The answer's ``data`` is put in the order of
``index``, cut, and numbered from 0 for each member. ``usage`` counts the whole call and is apportioned (see
`usage`).

*Completions*: ``prompt`` in the same spellings. Each prompt has ``n`` choices, numbered prompt by prompt.
Streams are not merged, and neither are requests whose choices the server picks among (``best_of``). Engines
for generation form batches of their own, token by token, so no route uses this codec unless the operator
says so; a chat has no list form at all.

``id`` names a whole answer: members get it with their place appended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Raw

from proxy.batching.codecs.base import Part, Prepared
from proxy.batching.codecs.json_bytes import split_text
from proxy.batching.codecs.objects import array, plain_fields, read_answer, read_request, tail, total_of
from proxy.batching.codecs.texts import inputs_of
from proxy.batching.codecs.usage import shares
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.exchange import Headers

__all__ = ("OpenAiCompletions", "OpenAiEmbeddings")

_part = msgspec.json.Decoder(dict[str, Raw]).decode


class _Frame(NamedTuple):
    """What a batch has in common; `choices` for each item."""

    tail: bytes
    choices: int = 1


class OpenAiEmbeddings:
    """``{"input": …}`` in, ``{"data": [{"index", "embedding"}, …]}`` out."""

    name = "openai_embeddings"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        return _prepare(read_request(body), "input", 1)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return _merge(members, b"input")

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return [(body, ()) for body in split_text(_cut_embeddings, answer[0], members)]


class OpenAiCompletions:
    """``{"prompt": …}`` in, ``{"choices": [{"index", "text"}, …]}`` out."""

    name = "openai_completions"

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        fields = read_request(body)
        if fields.get("stream", b"false") != b"false":
            raise MergeRefused("stream")
        if fields.get("best_of", b"null") not in {b"null", b"1"}:
            raise MergeRefused("form")
        choices = fields.get("n", b"1").replace(b"null", b"1")
        if not choices.isdigit() or not int(choices):
            raise MergeRefused("form")
        return _prepare(fields, "prompt", int(choices))

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return _merge(members, b"prompt")

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return [(body, ()) for body in split_text(_cut_choices, answer[0], members)]


def _prepare(fields: dict[str, bytes], name: str, choices: int) -> Prepared:
    inputs = inputs_of(fields.pop(name, b""))
    model = fields.get("model", b"").strip(b'"').decode()
    frame = _Frame(tail(fields), choices)
    key = (inputs.kind, frame)
    return Prepared(key, inputs.items, (inputs.payload,), frame, model=model, weight=inputs.weight)


def _merge(members: Sequence[Prepared], name: bytes) -> Part:
    inputs = b",".join([member.payload[0] for member in members])
    return b'{"%b":[%b]%b}' % (name, inputs, members[0].frame.tail), ()


def _cut_embeddings(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    return _cut(body, "data", members)


def _cut_choices(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    return _cut(body, "choices", members)


def _cut(body: bytes, name: str, members: Sequence[Prepared]) -> list[bytes]:
    fields = read_answer(body)
    entries = _in_order(fields.get(name, b"null"), total_of(members) * members[0].frame.choices)
    plain_fields({key: value for key, value in fields.items() if key not in {name, "usage"}})
    weights = [member.weight for member in members]
    usage = fields.get("usage", b"")
    used = shares(usage, weights) if usage.startswith(b"{") else [usage] * len(members)
    ident = fields.get("id", b"")
    parts = []
    start = 0
    for number, member in enumerate(members):
        count = member.items * member.frame.choices
        mine = [_numbered(entry, index) for index, entry in enumerate(entries[start : start + count])]
        start += count
        own = {name: b"[%b]" % b",".join(mine), "usage": used[number], "id": _of_member(ident, number)}
        parts.append(_object({key: own.get(key, value) for key, value in fields.items()}))
    return parts


def _in_order(value: bytes, expected: int) -> list[dict[str, Raw]]:
    """The entries of the answer in the order of their index, which must be 0 … `expected`-1."""
    found: dict[int, dict[str, Raw]] = {}
    entries = array(value)
    for entry in entries:
        fields = _part(bytes(entry))
        index = bytes(fields.get("index", b""))
        if index.isdigit():
            found[int(index)] = fields
    if len(entries) != expected or set(found) != set(range(expected)):
        raise SplitMismatch(f"{len(entries)} entries for {expected} items")
    return [found[index] for index in range(expected)]


def _numbered(fields: dict[str, Raw], index: int) -> bytes:
    return _object({**fields, "index": b"%d" % index})


def _of_member(ident: bytes, number: int) -> bytes:
    return b'%b-%d"' % (ident[:-1], number) if ident.endswith(b'"') else ident


def _object(fields: Mapping[str, bytes | Raw]) -> bytes:
    return b"{%b}" % b",".join(
        [b"%b:%b" % (msgspec.json.encode(name), value) for name, value in fields.items()]
    )
