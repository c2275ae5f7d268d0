"""JSON objects field by field: what codecs of one-object protocols share.

Theory of operation
-------------------
A request of these protocols is one object: a field or two hold the payload, all others say how to treat it
and must be spelt alike for two calls to share one. An answer is one object or one list. Fields are kept as
the bytes they were written in.

Fields of an answer beside the payload are given to every member if they are plain values (a model's name, a
version). A list or an object may hold something of one member's, and cutting it by guess would show it to
another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from proxy.batching.codecs.json_bytes import NOT_JSON, check_text, quotes
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proxy.batching.codecs.base import Prepared

__all__ = (
    "array",
    "check_count",
    "elements",
    "list_decoder",
    "plain_fields",
    "read_answer",
    "read_request",
    "tail",
    "total_of",
)

_object = msgspec.json.Decoder(dict[str, Raw]).decode
_array = msgspec.json.Decoder(list[Raw]).decode


def read_request(body: bytes) -> dict[str, bytes]:
    """The fields of a request; raises `MergeRefused` if it is no object or repeats a key."""
    try:
        fields = {name: bytes(value) for name, value in _object(body).items()}
    except msgspec.ValidationError:
        raise MergeRefused("form") from None
    except NOT_JSON:
        raise MergeRefused("not_json") from None
    if quotes(body) != sum(2 + quotes(value) for value in fields.values()):
        raise MergeRefused("duplicate_keys")
    check_text(body)
    return fields


def list_decoder(name: str) -> Callable[[bytes], list[Raw]]:
    """Reads the list `name` out of an object that has nothing else; any other is a ValidationError."""
    plain: Any = msgspec.defstruct(
        "Plain", [("rows", list[Raw])], rename={"rows": name}, forbid_unknown_fields=True, gc=False
    )
    decode = msgspec.json.Decoder(plain).decode
    return lambda body: decode(body).rows


def elements(value: bytes) -> list[Raw]:
    """The elements of a list in a request, at least one; raises `MergeRefused`."""
    try:
        found = _array(value)
    except NOT_JSON:
        raise MergeRefused("form") from None
    if not found:
        raise MergeRefused("empty")
    return found


def tail(fields: Mapping[str, bytes]) -> bytes:
    """`fields` as they follow another field: ``,"k":v`` each, in the order of their names."""
    return b"".join([b",%b:%b" % (msgspec.json.encode(name), fields[name]) for name in sorted(fields)])


def read_answer(body: bytes) -> dict[str, bytes]:
    """The fields of an answer; raises `SplitMismatch` if it is no object, or one of `NOT_JSON`."""
    try:
        return {name: bytes(value) for name, value in _object(body).items()}
    except msgspec.ValidationError as error:
        raise SplitMismatch(f"the answer is no object: {error}") from None


def array(value: bytes) -> list[Raw]:
    """The elements of a list in an answer; raises `SplitMismatch` if it is none, or one of `NOT_JSON`."""
    try:
        return _array(value)
    except msgspec.ValidationError:
        raise SplitMismatch("the answer has no list where one is expected") from None


def plain_fields(fields: Mapping[str, bytes]) -> bytes:
    """`fields` as they follow another field, to be given to every member; raises `SplitMismatch`."""
    doubtful = [name for name, value in fields.items() if value[:1] in {b"[", b"{"}]
    if doubtful:
        raise SplitMismatch(f"cannot tell whose {doubtful} are")
    return b"".join([b",%b:%b" % (msgspec.json.encode(name), value) for name, value in fields.items()])


def total_of(members: Sequence[Prepared]) -> int:
    """The items of all `members`."""
    return sum(member.items for member in members)


def check_count(rows: Sequence[object], expected: int) -> None:
    """Raise `SplitMismatch` unless there is one row for each item."""
    if len(rows) != expected:
        raise SplitMismatch(f"{len(rows)} parts for {expected} items")
