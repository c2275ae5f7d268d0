"""What would become of a request in the cache, for people: the verdict, and all that its key is made of.

Theory of operation
-------------------
The steps are those of `cache` and `seeking` in the same order, taken with nobody waiting: the policy, the
client's wishes, what the request asks, and what is known of each of its questions. A question is *kept*
(fresh), *stale* (still given while it is renewed), *in_flight* (somebody else is asking it), *not_kept* (its
answer turned out not to be keepable a moment ago) or *unknown*; a storage behind the memory is not asked.
Everything returned is a JSON value, and header values are shown as digests.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from proxy.telemetry.disclosure import shown_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.caching.policy import CachePolicy
    from proxy.caching.questions import Inquiry, Subject
    from proxy.exchange import Call

__all__ = ("Known", "key_parts", "refused", "understood")

Known = Literal["kept", "stale", "in_flight", "not_kept", "unknown"]

_LONGEST = 400
_MOST_DIGESTS = 8


def refused(why: str) -> dict[str, object]:
    """A request that is not looked up."""
    return {"looked_up": False, "why": why}


def understood(inquiry: Inquiry, known: Sequence[Known], policy: CachePolicy) -> dict[str, object]:
    """A request that is looked up, with what is `known` of each of its questions."""
    return {
        "looked_up": True,
        "verdict": _verdict(known),
        "questions": len(known),
        "known": dict(Counter(known)),
        "ttl_s": policy.ttl,
        "largest_entry_bytes": policy.entry,
    }


def key_parts(call: Call, subject: Subject, inquiry: Inquiry, generation: bytes) -> dict[str, object]:
    """What the keys of `inquiry` digest."""
    route, prepared = subject.route, inquiry.prepared
    return {
        "upstream": route.upstream,
        "protocol": route.protocol,
        "model": subject.model,
        "version": subject.version,
        "generation": generation.hex(),
        "method": call.method.decode("latin-1"),
        "scheme": call.scheme.decode("latin-1"),
        "target": call.target.decode("latin-1"),
        "headers": shown_fields(inquiry.stem.fields),
        "input": "the whole body" if prepared is None else repr(prepared.key)[:_LONGEST],
        "id": "part of the input" if prepared is None else "left out",
        "digests": [key.hex() for key in inquiry.keys[:_MOST_DIGESTS]],
    }


def _verdict(known: Sequence[Known]) -> str:
    """What the reply would be made of."""
    kinds = set(known)
    if kinds <= {"kept"}:
        return "hit"
    if kinds <= {"kept", "stale"}:
        return "stale"
    if "not_kept" in kinds:
        return "bypass"
    if "unknown" not in kinds:
        return "collapsed"
    return "partial" if kinds & {"kept", "stale"} else "miss"
