"""Whether a call answered in a batch was answered as it would have been alone.

Theory of operation
-------------------
Some models do not treat the rows of a batch separately (normalisation over the batch, padding that leaks, a
server that shuffles). Counting parts cannot see that; comparing with the answer to the same call sent alone
can. A `Sampler` picks calls at the configured share, evenly and without chance, so that a test and an
operator can count on it; at most one of each batch, so that the backend is not asked everything twice.

Numbers are compared with a tolerance: libraries sum in another order for another batch size, so the last
digits differ; what is no number in both (NaN) is the same. Everything else must be equal. Fields that name
one answer (``id``) or measure it are left out.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import TYPE_CHECKING, TypeGuard

import msgspec

from proxy.batching.codecs.json_bytes import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Sampler", "is_same", "read_json")

_RELATIVE = 1e-4
_ABSOLUTE = 1e-6
_OWN = frozenset(("id", "created", "usage"))


class Sampler:
    """Picks the given share (0 to 1) of what passes by."""

    __slots__ = ("_due", "_picked", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0
        self._picked = 0

    def pick(self, count: int) -> int | None:
        """Which of the next `count` is to be looked at: one of 0 … count-1, each in turn, or None."""
        self._due += self._share * count
        if self._due < 1:
            return None
        self._due = min(self._due - 1, 1.0)  # a large batch gives one sample, not a queue of them
        self._picked += 1
        return self._picked % count


def read_json(text: bytes) -> object:
    """What a JSON answer says; the bytes themselves when it is none."""
    try:
        return msgspec.json.decode(text)
    except NOT_JSON:
        try:
            return json.loads(text)  # slower; knows NaN, and numbers beyond 64 bits
        except (ValueError, RecursionError):
            return text


def is_same(one: bytes, other: bytes, read: Callable[[bytes], object] = read_json) -> bool:
    """Whether two answers, of which `read` tells the content, say the same, give or take rounding."""
    return one == other or _is_same(read(one), read(other))


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return all(_is_same(one.get(name), other.get(name)) for name in names - _OWN)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if _is_number(one) and _is_number(other):
        return _is_close(one, other)
    if isinstance(one, str) and isinstance(other, str):
        return one == other or _is_same_packed(one, other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _is_close(one: float, other: float) -> bool:
    try:
        are_none = math.isnan(one) and math.isnan(other)
        return are_none or math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    except OverflowError:  # whole numbers beyond any double
        return one == other


def _is_same_packed(one: str, other: str) -> bool:
    """Whether two texts are the same vector of 32-bit numbers, packed as OpenAI's ``base64`` format does."""
    try:
        first, second = base64.b64decode(one, validate=True), base64.b64decode(other, validate=True)
    except ValueError:
        return False
    if len(first) != len(second) or len(first) % 4:
        return False
    pairs = zip(struct.iter_unpack("<f", first), struct.iter_unpack("<f", second), strict=True)
    return all(_is_close(x, y) for (x,), (y,) in pairs)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
