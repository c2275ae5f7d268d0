"""Replies made of entries, and what every reply says of the cache: `Age` (RFC 9111) and `Cache-Status` (RFC
9211).

Pure: entries and instants in, replies out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.caching.entries import Entry
    from proxy.caching.questions import Inquiry
    from proxy.exchange import Headers

__all__ = ("from_entries", "noted", "only_if_cached", "shared")

_STATUS = b"Cache-Status"


def from_entries(inquiry: Inquiry, entries: Sequence[Entry], now: float, *, note: bytes = b"hit") -> Reply:
    """The answer to `inquiry` from one entry for each of its keys.

    Raises `SplitMismatch` when the entries of several items do not fit together.
    """
    if len(entries) == 1:
        oldest = entries[0]
        body, made_at, fresh_until = oldest.body, oldest.made_at, oldest.fresh_until
    else:
        assert inquiry.cutter is not None  # noqa: S101  several keys exist only with a cutter
        oldest = min(entries, key=_age)
        body = inquiry.cutter.join([entry.body for entry in entries])
        made_at, fresh_until = oldest.made_at, min(entry.fresh_until for entry in entries)
    if inquiry.ident:
        body = inquiry.envelope.with_id(body, inquiry.ident)
    reply = Reply(200, oldest.headers, body, reason=oldest.reason, source="cache")
    reply.added = (
        (b"Age", b"%d" % max(0, now - made_at)),
        (_STATUS, b"pillion; %b; ttl=%d" % (note, fresh_until - now)),
    )
    return reply


def _age(entry: Entry) -> float:
    return entry.made_at


def noted(reply: Reply, note: bytes) -> Reply:
    """`reply`, saying of the cache what `note` says."""
    reply.added = (*reply.added, (_STATUS, b"pillion; " + note))
    return reply


def shared(reply: Reply, headers: Headers, note: bytes) -> Reply:
    """A copy of a whole reply for another caller, who may see `headers` of it."""
    return noted(Reply(reply.status, headers, reply.body, reason=reply.reason, source="cache"), note)


def only_if_cached() -> Reply:
    """What a client gets who forbade asking the backend (RFC 9111 §5.2.1.7)."""
    body = b'{"error":"not in the cache, and the request forbids asking the backend"}'
    return noted(
        Reply(504, ((b"Content-Type", b"application/json"),), body, source="proxy"),
        b"fwd=miss; detail=only_if_cached",
    )
