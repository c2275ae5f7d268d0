"""What makes two requests the same question, as one digest: nothing that could change an answer is left out.

Theory of operation
-------------------
A key is a BLAKE3 digest over

* which backend: upstream, protocol, and its *generation*, which changes when the model may have;
* what was asked: method, scheme, target (with its query), model and version;
* by whom: every request field that is not known to be noise, credentials included. Which fields those are is
  the rule that also keeps strangers out of each other's batches; it is handed in;
* the input: what the protocol's codec understood of the body (names, shapes, datatypes, parameters, requested
  outputs) and the bytes of the items as the client spelt them; or the whole body where there is no codec.

The only thing left out is the caller's request id, which the codec sets apart; `Envelope` takes it out of an
answer and puts each caller's own back.

The parts are packed as MessagePack before they are digested. That packing is injective: every element carries
its type and length, so no two different tuples share bytes, as joined text would (``("ab", "c")`` and ``("a",
"bc")``). The items' bytes follow the packed rest, which ends where its own length says.

A request with several items has one key for each item, equal to the key of a request for that item alone.
Numbers are compared as they are spelt: ``1.0`` and ``1.00`` are different questions, which costs a
computation and can never cost correctness.

Not every body that has no proof of its form may be digested whole: one that names a sequence or a region of
shared memory has an input outside of itself. Such words are searched for in the raw bytes, and bodies with
escapes, in which the words could hide, are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from proxy.exchange import Call, Headers

__all__ = ("Envelope", "Question", "body_refusal", "item_keys", "pack", "whole_key")

_pack = msgspec.msgpack.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_name = msgspec.json.Encoder().encode
_ELSEWHERE: Final = re.compile(rb'\\|"(?:sequence_|shared_memory_)')
_FORMAT: Final = 1  # of keys and entries in stores that outlive the process


class Question(NamedTuple):
    """What all items of a request have in common, beside its fields."""

    upstream: str
    protocol: str
    model: str
    version: str | None
    generation: bytes


def pack(question: Question, call: Call, fields: Headers, form: Hashable) -> bytes:
    """Everything about `call` but its items; `fields` are those that matter, `form` what its codec
    understood.

    Raises TypeError for a `form` that is not made of plain values.
    """
    return _pack((_FORMAT, question, call.method, call.scheme, call.target, fields, form))


def item_keys(packed: bytes, items: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    """The key of each of `items` (each the bytes of one item, as many pieces as the protocol needs)."""
    return [blake3(packed + _pack(item)).digest() for item in items]


def whole_key(packed: bytes, body: bytes) -> bytes:
    """The key of a request that is compared by its whole body."""
    return blake3(packed + body).digest()


def body_refusal(body: bytes) -> str | None:
    """Why a body that no codec understood must not stand for its question, or None when it may."""
    return "input_elsewhere" if _ELSEWHERE.search(body) else None


class Envelope:
    """How one protocol echoes the caller's id in an answer: in the top-level field `field`, or never ("")."""

    __slots__ = ("_field", "_label")

    def __init__(self, field: str = "") -> None:
        self._field = field
        self._label = b"," + _name(field) + b":"

    def without_id(self, body: bytes) -> bytes | None:
        """The answer `body` without the id in it; None when it is not of the form that could have one."""
        if not self._field:
            return body
        try:
            fields = _object(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if fields.pop(self._field, None) is None and fields:
            return body.rstrip()
        return b"{%b}" % b",".join([b"%b:%b" % (_name(name), value) for name, value in fields.items()])

    def with_id(self, body: bytes, ident: bytes) -> bytes:
        """The answer with `ident` (JSON text) as its id; `body` is what `without_id` returned."""
        if not ident or not self._field:
            return body
        if body == b"{}":
            return b"{%b%b}" % (self._label[1:], ident)
        return b"%b%b%b}" % (body[:-1], self._label, ident)
