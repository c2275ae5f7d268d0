"""Who used how much: the totals of a batch given back to its members.

Theory of operation
-------------------
Servers report token counts for a whole call. Members get shares in proportion to what they sent: exactly,
if the counts that were sent add up to the total (callers who send token numbers), else as an estimate.
Shares are whole numbers that add up to the total: everybody gets the whole part, and what is left goes to
the largest fractions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("apportion", "shares")

_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole shares in proportion to `weights`; they add up to it."""
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    shares = [total * weight // whole for weight in weights]
    fractions = [total * weight % whole for weight in weights]
    by_fraction = sorted(range(len(weights)), key=fractions.__getitem__, reverse=True)
    for index in by_fraction[: total - sum(shares)]:
        shares[index] += 1
    return shares


def shares(usage: bytes, weights: Sequence[int]) -> list[bytes]:
    """The JSON object `usage` for each member: counts apportioned, null kept, anything else left out.

    Raises one of `NOT_JSON` if it is no object.
    """
    fields = _fields(usage)
    parts: list[list[bytes]] = [[] for _ in weights]
    for name, value in fields.items():
        key, raw = msgspec.json.encode(name), bytes(value)
        if raw.isdigit():
            for part, share in zip(parts, apportion(int(raw), weights), strict=True):
                part.append(b"%b:%d" % (key, share))
        elif raw == b"null":
            for part in parts:
                part.append(b"%b:null" % key)
    return [b"{%b}" % b",".join(part) for part in parts]
