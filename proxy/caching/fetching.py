"""What a flight does: ask the storage, ask the backend for what is still unknown, keep what may be kept.

Owned by the flight's task, which runs `fly` to its end or is cancelled with it. It waits for the storage (a
bounded span) and for the backend.

The call that is sent is never the caller's own object: it outlives a caller who leaves, it may carry fewer
items than the caller asked for, and it asks for no content coding, so that what is kept suits everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.caching.entries import Entry
from proxy.caching.freshness import Spans, Wish, lifespan_of
from proxy.errors import MergeRefused, ProxyError, SplitMismatch
from proxy.exchange import Call, Reply, Stream, field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.caching.generations import Generations
    from proxy.caching.policy import CachePolicy
    from proxy.caching.questions import Inquiry
    from proxy.caching.store import Store
    from proxy.exchange import Headers

    Fetch = Callable[[Call], Awaitable[Reply]]

__all__ = ("Errand", "Fetch", "Fetcher", "Outcome", "is_usable")

_ACCEPT_ENCODING = b"accept-encoding"
_BINARY = b"inference-header-content-length"


class Errand(NamedTuple):
    """One request and everything that decides what becomes of it."""

    call: Call
    body: bytes
    inquiry: Inquiry
    policy: CachePolicy
    wish: Wish
    upstream: str
    model: str
    generation: bytes
    fetch: Fetch


class Outcome:
    """What a flight brought: `entries` for (some of) its keys; the backend's `reply`, or the `error` it ended
    in.

    `is_whole` says that the call carried the whole request, so that `reply` answers it as it is; `why` says
    why the reply was not kept."""

    __slots__ = ("entries", "error", "is_whole", "reply", "why")

    def __init__(
        self,
        entries: dict[bytes, Entry],
        reply: Reply | None = None,
        error: ProxyError | None = None,
        *,
        is_whole: bool = False,
        why: str = "",
    ) -> None:
        self.entries = entries
        self.reply = reply
        self.error = error
        self.is_whole = is_whole
        self.why = why


def is_usable(entry: Entry, wish: Wish, now: float) -> bool:
    """Whether `entry` is fresh enough for a client that wishes `wish`."""
    return now + wish.min_fresh < entry.fresh_until and now - entry.made_at <= wish.max_age


class Fetcher:
    """Carries out errands. `share` leaves those answer fields that say nothing about one caller; `now` gives
    seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        generations: Generations,
        share: Callable[[Headers], Headers],
        now: Callable[[], float],
    ) -> None:
        self.store = store
        self._generations = generations
        self.share = share
        self.now = now

    async def fly(self, errand: Errand, places: Sequence[int]) -> Outcome:
        """Answer the items at `places` of the errand's inquiry."""
        keys = errand.inquiry.keys
        recalled = await self.store.recall([keys[place] for place in places])
        now = self.now()
        entries = {key: entry for key, entry in recalled.items() if is_usable(entry, errand.wish, now)}
        unknown = [place for place in places if keys[place] not in entries]
        if not unknown:
            return Outcome(entries)
        sent, unknown = _request(errand, unknown)
        is_whole = len(unknown) == len(keys)
        try:
            reply = await self._whole(await errand.fetch(sent), errand, len(unknown))
        except ProxyError as error:
            return Outcome(entries, error=error, is_whole=is_whole)
        finally:
            sent.account_to(errand.call)
        kept = self.keep(errand, reply, unknown)
        if isinstance(kept, str):
            return Outcome(entries, reply, is_whole=is_whole, why=kept)
        return Outcome(entries | kept, reply, is_whole=is_whole)

    def keep(self, errand: Errand, reply: Reply, places: Sequence[int]) -> dict[bytes, Entry] | str:
        """Keep a reply to the items at `places`: the entries, or why there are none."""
        inquiry, policy = errand.inquiry, errand.policy
        if not isinstance(reply.body, bytes):
            return "stream"
        if field(reply.headers, _BINARY) is not None:
            return "binary_tensors"
        spans = Spans(policy.ttl, policy.stale_if_error, policy.stale_while_revalidate)
        life = lifespan_of(reply.status, reply.headers, spans, self.now(), is_keyed=inquiry.is_keyed)
        if isinstance(life, str):
            return life
        bodies = _bodies(inquiry, reply.body, reply.headers, places)
        if isinstance(bodies, str):
            return bodies
        headers = tuple([pair for pair in self.share(reply.headers) if pair[0].lower() != b"age"])
        entries = {
            inquiry.keys[place]: Entry(errand.model, reply.reason, headers, body, *life)
            for place, body in zip(places, bodies, strict=True)
        }
        if max(entry.cost for entry in entries.values()) > policy.entry:
            return "too_large"
        # What a model said before it was loaded anew answers those who asked it, and nobody after them.
        if self._generations.of(errand.upstream, errand.model) == errand.generation:
            for key, entry in entries.items():
                self.store.put(key, entry)
        return entries

    @staticmethod
    async def _whole(reply: Reply, errand: Errand, items: int) -> Reply:
        """`reply` with its body gathered where it is one document of bounded size."""
        body = reply.body
        if reply.status != 200 or not isinstance(body, Stream):
            return reply
        kind = (field(reply.headers, b"content-type") or b"").partition(b";")[0].strip().lower()
        if body.length is not None or kind == b"application/json":
            whole = await body.gather(errand.policy.entry * items)
            if whole is not None:
                body.abandon()
                reply.body = whole
        return reply


def _bodies(inquiry: Inquiry, body: bytes, headers: Headers, places: Sequence[int]) -> list[bytes] | str:
    """The part of an answer that belongs to each of `places`, without an id; or why it cannot be told."""
    if inquiry.cutter is not None:
        try:
            parts = inquiry.cutter.split((body, headers), [inquiry.items[place] for place in places])
        except SplitMismatch:
            return "split"
        return [part for part, _ in parts]
    if inquiry.prepared is None:
        return [body]
    bare = inquiry.envelope.without_id(body)
    return "form" if bare is None else [bare]


def _request(errand: Errand, unknown: list[int]) -> tuple[Call, list[int]]:
    """The call that asks for the items at `unknown`, and the places that it asks for."""
    inquiry = errand.inquiry
    if len(unknown) < len(inquiry.keys):
        call = _partial(errand, unknown)
        if call is not None:
            return call, unknown
        unknown = list(range(len(inquiry.keys)))
    return _copy(errand.call, errand.body, ()), unknown


def _partial(errand: Errand, unknown: Sequence[int]) -> Call | None:
    """A call for some of the items; None when they would not be understood as they were among the others.

    A row of integers beside a row of fractions is fractions too; alone it would be integers.
    """
    inquiry = errand.inquiry
    cutter, prepared = inquiry.cutter, inquiry.prepared
    assert cutter is not None and prepared is not None  # noqa: S101, PT018  several keys exist only with a cutter
    body, described = cutter.merge([inquiry.items[place] for place in unknown])
    call = _copy(errand.call, body, described)
    try:
        alone = cutter.prepare(body, call.headers)
    except MergeRefused:
        return None
    return call if alone.key == prepared.key and alone.items == len(unknown) else None


def _copy(call: Call, body: bytes, described: Headers) -> Call:
    """A call of our own in the name of `call`."""
    dropped = {_ACCEPT_ENCODING, *[name.lower() for name, _ in described]}
    headers = tuple([pair for pair in call.headers if pair[0].lower() not in dropped])
    sent = Call(call.method, call.target, headers + described, body, deadline=call.deadline)
    sent.act_for(call)
    return sent
