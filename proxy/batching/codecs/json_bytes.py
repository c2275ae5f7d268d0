"""JSON handled as bytes: what codecs need to know of a document without decoding its numbers.

Theory of operation
-------------------
*Duplicate keys.* A decoder keeps one of two equal keys and backends disagree about which, so a document
with a repeated key in its frame must not be rewritten. Every key and every string costs exactly two
quotation marks, and no decoder hides one: if the marks in the body are exactly those of the keys and values
that were decoded, nothing was dropped. Escapes are removed before counting (an escaped mark is text), so an
escaped spelling of a key counts like any other.

*Shapes.* Deleting digits, signs, points, exponents and white space from an array of numbers leaves its
skeleton, ``[[,,],[,,]]``: equal skeletons are equal shapes, computed at memory speed. Two cautions. Letters
and marks remain, so ``true``, ``null`` and strings betray themselves. And ``[]`` and ``[7]`` have the same
skeleton, so where single-element lists occur an empty one is searched for.

*Kinds.* Numeric libraries give a whole array one type. A row of integers that shares an array with a row of
fractions becomes fractions, and an integer above 2^63 turns its neighbours into objects. Rows share a call
only when they would have had the same type alone, and integers of more than 18 characters never do.

*Answers that are not quite JSON.* Several servers print the tokens NaN and Infinity, which strict JSON does
not know. `veil` writes them as unmistakable strings, so that a strict decoder sees the structure; `unveil`
puts the tokens back into the parts.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.batching.codecs.base import Prepared

    Cut = Callable[[bytes, Sequence[Prepared]], list[bytes]]

__all__ = (
    "NOT_JSON",
    "check_text",
    "digest",
    "has_empty",
    "join_text",
    "pieces",
    "quotes",
    "rows_signature",
    "shape_of",
    "skeleton",
    "split_text",
    "unveil",
    "veil",
)

NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What the decoder raises for bytes that are not (usable) JSON."""

_NUMERIC = b"0123456789+-.eE \t\r\n"
_SPACES = bytes.maketrans(b"[] \t\r\n", b",,,,,,")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_EMPTY = re.compile(rb"\[[ \t\r\n]*\]")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|NaN|-?Infinity', re.DOTALL)
_VEIL = rb'"\u0000bare '
_VEILED = {token: _VEIL + token + b'"' for token in (b"NaN", b"-Infinity", b"Infinity")}

_SCALARS: dict[type, str] = {str: "s", bool: "b", int: "i", float: "f", type(None): "n"}
_LONGEST_INTEGER = 18  # characters: every such integer fits 64 bits with its sign
_LARGE = 10**_LONGEST_INTEGER
_LONGEST_SKELETON = 256  # bytes kept as they are; beyond, a digest keeps the key small
_DEEPEST = 32  # levels that a shape is computed for; real rows have a handful


def quotes(data: bytes) -> int:
    """How many quotation marks delimit strings in the JSON text `data`."""
    if b"\\" in data:
        data = _ESCAPE.sub(b"", data)
    return data.count(b'"')


def check_text(body: bytes) -> None:
    """Refuse bytes that are not UTF-8: one member's would make the merged body unreadable for all."""
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError:
        raise MergeRefused("not_utf8") from None


def skeleton(data: bytes) -> bytes:
    """`data` without numbers and white space."""
    return data.translate(None, _NUMERIC)


def has_empty(data: bytes, outline: bytes) -> bool:
    """Whether an array in `data` (numbers only), whose skeleton is `outline`, has no element."""
    return b"[]" in outline and _EMPTY.search(data) is not None


def digest(data: bytes) -> bytes:
    """`data` itself when it is short, else 16 bytes that stand for it."""
    return data if len(data) <= _LONGEST_SKELETON else hashlib.blake2b(data, digest_size=16).digest()


def rows_signature(rows: Sequence[msgspec.Raw], payload: bytes) -> tuple[str, bytes | str]:
    """What the rows of one request have in common: (kind, shape).

    `payload` is the rows joined by commas. Raises `MergeRefused` when the rows differ among themselves or
    when neighbours could change their type.
    """
    outline = payload.translate(None, _NUMERIC)
    if outline.strip(b"[],"):
        return _values_signature(rows)
    if len(rows) > 1:
        first = skeleton(bytes(rows[0]))
        if outline != b",".join([first] * len(rows)):
            raise MergeRefused("ragged_rows")
        outline = first
    if b"[]" in outline and has_empty(payload, outline):
        raise MergeRefused("empty_rows")
    if b"." in payload or b"e" in payload or b"E" in payload:
        return "f", digest(outline)
    if max(map(len, payload.translate(_SPACES).split(b","))) > _LONGEST_INTEGER:
        raise MergeRefused("large_integers")
    return "i", digest(outline)


def _values_signature(rows: Sequence[msgspec.Raw]) -> tuple[str, str]:
    """The signature of rows that hold more than numbers: one walk over each value."""
    try:
        shapes = {shape_of(msgspec.json.decode(row)) for row in rows}
    except NOT_JSON:  # a number beyond doubles
        raise MergeRefused("not_json") from None
    if len(shapes) > 1:
        raise MergeRefused("ragged_rows")
    return "v", shapes.pop()


def shape_of(value: object, depth: int = 0) -> str:
    """The type and shape of a decoded JSON value, as text; equal text means equal shape."""
    if depth > _DEEPEST:
        raise MergeRefused("too_deep")
    if isinstance(value, list):
        return _list_shape(value, depth)
    if isinstance(value, dict):
        # Order counts: a table's columns come in the order of its first row's keys.
        named = (
            f"{msgspec.json.encode(key).decode()}:{shape_of(item, depth + 1)}" for key, item in value.items()
        )
        return "{" + ",".join(named) + "}"
    if type(value) is int and not -_LARGE < value < _LARGE:
        raise MergeRefused("large_integers")
    return _SCALARS[type(value)]


def _list_shape(values: list[object], depth: int) -> str:
    types = set(map(type, values))
    if types in ({float}, {str}):  # the common long lists, without a call for each element
        return f"[{len(values)}{_SCALARS[types.pop()]}]"
    kinds = dict.fromkeys(shape_of(value, depth + 1) for value in values)
    if kinds.keys() == {"i", "f"}:
        return f"[{len(values)}f]"  # one array, one type
    if len(kinds) == 1:
        return f"[{len(values)}{next(iter(kinds))}]"
    return f"[{','.join(shape_of(value, depth + 1) for value in values)}]"


def veil(text: bytes) -> bytes:
    """`text` with the bare tokens NaN, Infinity and -Infinity written as strings no one else writes.

    Raises ValueError when there is nothing to veil or when `text` already holds such a string.
    """
    if _VEIL in text:
        raise ValueError("the text already holds a veil")
    veiled = _TOKEN.sub(lambda match: _VEILED.get(match[0], match[0]), text)
    if veiled == text:
        raise ValueError("no NaN or Infinity in the text")
    return veiled


def _has_bare(text: bytes) -> bool:
    return any(match[0] in _VEILED for match in _TOKEN.finditer(text))


def unveil(text: bytes) -> bytes:
    """The bytes that `veil` was given, or the part of them that `text` is."""
    for token, veiled in _VEILED.items():
        text = text.replace(veiled, token)
    return text


def split_text(cut: Cut, text: bytes, members: Sequence[Prepared]) -> list[bytes]:
    """`cut(text, members)`, through a veil if `text` needs one.

    `cut` raises one of `NOT_JSON` for text it cannot read; that becomes `SplitMismatch`.
    """
    try:
        return cut(text, members)
    except NOT_JSON as error:
        try:
            veiled = veil(text)
            return [unveil(part) for part in cut(veiled, members)]
        except (ValueError, *NOT_JSON):
            raise SplitMismatch(f"the answer is not usable JSON: {error}") from None


def join_text(join: Callable[[Sequence[bytes]], bytes], texts: Sequence[bytes]) -> bytes:
    """`join(texts)`, through a veil if one of them needs it; raises `SplitMismatch` like `split_text`."""
    try:
        return join(texts)
    except NOT_JSON as error:
        try:
            return unveil(join([veil(text) if _has_bare(text) else text for text in texts]))
        except (ValueError, *NOT_JSON):
            raise SplitMismatch(f"an answer is not usable JSON: {error}") from None


def pieces(
    rows: Sequence[bytes | msgspec.Raw], members: Sequence[Prepared], stride: int = 1
) -> list[bytes | msgspec.Raw]:
    """The elements of each member joined by commas: `stride` of them for each of its items."""
    if len(rows) == len(members):
        return list(rows)
    parts: list[bytes | msgspec.Raw] = []
    start = 0
    for member in members:
        count = member.items * stride
        if count == 1:
            parts.append(rows[start])
        else:
            parts.append(b",".join(rows[start : start + count]))
        start += count
    return parts
