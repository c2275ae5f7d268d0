"""How a question that is not a plain hit gets its answer: from memory, from another's flight, or from a new
one.

Owned by the cache. A request waits for the flights that will answer it; the flights belong to `SingleFlight`,
take as long as the upstream takes, and end with `close`.

An answer that turned out not to be keepable leaves a mark on its question: for some seconds everybody who
asks it is passed straight on. Without the mark, requests would wait for a flight whose answer is not for
them, one after the other.

What may be shared of a failure: those who waited for the very same request get the same failure, and nobody
after them does. Whoever shared only some items with a failed request sends its own, because the fault may lie
with the other items. A deadline that passed is never shared."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from proxy.caching.answers import from_entries, noted, only_if_cached, shared
from proxy.caching.fetching import Outcome, is_usable
from proxy.caching.freshness import Wish
from proxy.caching.singleflight import SingleFlight
from proxy.errors import DeadlineExceeded, Draining, SplitMismatch
from proxy.exchange import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.caching.entries import Entry
    from proxy.caching.explain import Known
    from proxy.caching.fetching import Errand, Fetcher
    from proxy.caching.flights import Flight
    from proxy.exchange import Reply
    from proxy.timing import Clock

__all__ = ("Seeker",)

_MOST_PASSING = 4096
_PASSING_S = 5.0
_ANYTHING = Wish()


class Seeker:
    """Seeks answers. `results` counts requests by what came of them: hit, miss, partial (some items were
    known), collapsed (another request's flight), stale, bypass."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self.results: Counter[str] = Counter()
        self.now = fetcher.now
        self._fetcher = fetcher
        self._store = fetcher.store
        self._single: SingleFlight[Outcome] = SingleFlight(
            clock, lambda: Outcome({}, error=Draining(), is_whole=True), _discard
        )
        self._passing: OrderedDict[bytes, float] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Upstream calls on their way."""
        return len(self._single.flights)

    async def close(self) -> None:
        """Give up every flight."""
        await self._single.close()

    async def seek(self, errand: Errand) -> Reply:
        """Answer what is not a plain hit."""
        if not errand.wish.reads:
            return await self._alone(errand, b"fwd=request", "miss")
        while True:
            now = self.now()
            found = self._find(errand, now)
            missing = [place for place, key in enumerate(errand.inquiry.keys) if key not in found]
            if not missing:
                return await self._known(errand, found, now)
            if errand.wish.only_cached:
                return await self._recalled(errand, found, missing)
            if any(self._is_passing(errand.inquiry.keys[place]) for place in missing):
                return await self._alone(errand, b"fwd=bypass; detail=not_kept", "bypass")
            reply = await self._travel(errand, found, missing)
            if reply is not None:
                return reply

    def known(self, key: bytes, wish: Wish) -> Known:
        """What is known of one question; the storage is not asked."""
        now, entry = self.now(), self._store.get(key)
        if entry is not None and wish.reads:
            if is_usable(entry, wish, now):
                return "kept"
            if wish == _ANYTHING and now < entry.revalidate_until:
                return "stale"
        if self._single.flights.of(key) is not None and wish.reads:
            return "in_flight"
        return "not_kept" if self._is_passing(key) else "unknown"

    # ------------------------------------------------------------- known answers
    def _find(self, errand: Errand, now: float) -> dict[bytes, Entry]:
        """The entries in memory that the client may be given: fresh, or stale while others are fetched."""
        found = {}
        for key in errand.inquiry.keys:
            entry = self._store.get(key)
            if entry is not None and (
                is_usable(entry, errand.wish, now)
                or (errand.wish == _ANYTHING and now < entry.revalidate_until)
            ):
                self._store.touch(key)
                found[key] = entry
        return found

    async def _known(self, errand: Errand, found: Mapping[bytes, Entry], now: float) -> Reply:
        """Every item is in memory; what is stale among them is fetched anew behind the caller's back."""
        keys = errand.inquiry.keys
        stale = [place for place, key in enumerate(keys) if found[key].fresh_until <= now]
        stale = [place for place in stale if self._single.flights.of(keys[place]) is None]
        if stale:
            self._launch(self._background(errand), stale, is_background=True)
        is_fresh = all(now < entry.fresh_until for entry in found.values())
        return await self._assembled(errand, found, "hit" if is_fresh else "stale", b"hit")

    @staticmethod
    def _background(errand: Errand) -> Errand:
        return errand._replace(call=errand.call.repeated())

    async def _recalled(self, errand: Errand, found: dict[bytes, Entry], missing: Sequence[int]) -> Reply:
        """Answer without asking the backend."""
        keys = errand.inquiry.keys
        now = self.now()
        recalled = await self._store.recall([keys[place] for place in missing])
        found |= {key: entry for key, entry in recalled.items() if is_usable(entry, errand.wish, now)}
        if len(found) == len(set(keys)):
            return await self._assembled(errand, found, "hit", b"hit")
        self.results["miss"] += 1
        return only_if_cached()

    async def _assembled(
        self, errand: Errand, entries: Mapping[bytes, Entry], result: str, note: bytes
    ) -> Reply:
        """The reply from one entry for each item; the whole request is sent when they do not fit together."""
        keys = errand.inquiry.keys
        try:
            reply = from_entries(errand.inquiry, [entries[key] for key in keys], self.now(), note=note)
        except SplitMismatch:
            for key in keys:
                self._pass(key)
            return await self._alone(errand, b"fwd=miss; detail=join", "miss")
        self.results[result] += 1
        return reply

    # ------------------------------------------------------------- flights
    async def _travel(
        self, errand: Errand, found: dict[bytes, Entry], missing: Sequence[int]
    ) -> Reply | None:
        """Wait for whoever will know; None when it is worth to look again."""
        keys = errand.inquiry.keys
        joined: dict[Flight[Outcome], None] = {}
        unclaimed: dict[bytes, int] = {}
        for place in missing:
            flight = self._single.flights.of(keys[place])
            if flight is None:
                unclaimed.setdefault(keys[place], place)
            else:
                joined[flight] = None
        own = self._launch(errand, list(unclaimed.values())) if unclaimed else None
        flights = [*joined] if own is None else [own, *joined]
        try:
            outcomes = await self._single.wait(flights, errand.call.deadline)
        except BaseException:
            if own is not None:
                self._single.orphan(own)
            raise
        for outcome in outcomes:
            found |= outcome.entries
        if own is not None:
            return await self._arrived(errand, found, outcomes[0], is_shared=bool(joined))
        return await self._followed(errand, found, flights[0], outcomes[0])

    def _launch(
        self, errand: Errand, places: Sequence[int], *, is_background: bool = False
    ) -> Flight[Outcome]:
        keys = tuple(errand.inquiry.keys[place] for place in places)
        return self._single.launch(keys, self._flown(errand, places, keys), is_background=is_background)

    async def _flown(self, errand: Errand, places: Sequence[int], keys: Sequence[bytes]) -> Outcome:
        outcome = await self._fetcher.fly(errand, places)
        if outcome.why and outcome.why != "status":
            for key in keys:
                self._pass(key)
        return outcome

    async def _arrived(
        self, errand: Errand, entries: Mapping[bytes, Entry], own: Outcome, *, is_shared: bool
    ) -> Reply:
        """The request's own flight landed."""
        reply = own.reply
        if own.error is not None or (reply is not None and reply.status >= 500):
            stale = await self._on_error(errand)
            if stale is not None:
                _discard(own)
                return stale
        if own.error is not None:
            self.results["miss"] += 1
            raise copy.copy(own.error)
        if reply is not None and (own.is_whole or reply.status != 200):
            self.results["miss"] += 1
            return noted(
                reply, b"fwd=uri-miss; detail=" + own.why.encode() if own.why else b"fwd=uri-miss; stored"
            )
        if all(key in entries for key in errand.inquiry.keys):
            if reply is None:
                return await self._assembled(errand, entries, "collapsed" if is_shared else "hit", b"hit")
            return await self._assembled(errand, entries, "partial", b"fwd=partial; stored")
        _discard(own)
        return await self._alone(errand, b"fwd=miss; detail=items", "miss")

    async def _followed(
        self, errand: Errand, entries: Mapping[bytes, Entry], flight: Flight[Outcome], other: Outcome
    ) -> Reply | None:
        """All that was missing was asked by others."""
        keys = errand.inquiry.keys
        if all(key in entries for key in keys):
            return await self._assembled(errand, entries, "collapsed", b"fwd=miss; collapsed")
        if set(flight.keys) != set(keys) or not other.is_whole:
            return await self._alone(errand, b"fwd=miss; detail=items", "miss")
        if isinstance(other.error, DeadlineExceeded):
            return None  # theirs, not ours
        reply = other.reply
        if other.error is not None or (reply is not None and reply.status >= 500):
            stale = await self._on_error(errand)
            if stale is not None:
                return stale
        if other.error is not None:
            self.results["collapsed"] += 1
            raise copy.copy(other.error)
        if reply is not None and other.why == "status" and isinstance(reply.body, bytes):
            self.results["collapsed"] += 1
            return shared(reply, self._fetcher.share(reply.headers), b"fwd=miss; collapsed; detail=status")
        return await self._alone(errand, b"fwd=miss; detail=not_kept", "miss")

    async def _on_error(self, errand: Errand) -> Reply | None:
        """The backend failed: what is known of old, where the operator allows it."""
        if errand.wish != _ANYTHING:
            return None
        now = self.now()
        found = {}
        for key in errand.inquiry.keys:
            entry = self._store.get(key)
            if entry is None or now >= entry.error_until:
                return None
            found[key] = entry
        return await self._assembled(errand, found, "stale", b"hit; fwd=stale; detail=upstream_error")

    async def _alone(self, errand: Errand, note: bytes, result: str) -> Reply:
        """Send the caller's own call, for the caller alone; keep what comes when that is allowed."""
        self.results[result] += 1
        reply = await errand.fetch(errand.call)
        places = range(len(errand.inquiry.keys))
        if result == "miss" and not isinstance(self._fetcher.keep(errand, reply, places), str):
            note += b"; stored"
        return noted(reply, note)

    # ------------------------------------------------------------- what is not worth waiting for
    def _pass(self, key: bytes) -> None:
        """The answer to `key` cannot be kept: for a while nobody waits for another's."""
        if len(self._passing) >= _MOST_PASSING:
            self._passing.popitem(last=False)
        self._passing[key] = self.now() + _PASSING_S

    def _is_passing(self, key: bytes) -> bool:
        until = self._passing.get(key)
        if until is None:
            return False
        if self.now() < until:
            return True
        del self._passing[key]
        return False


def _discard(outcome: Outcome) -> None:
    """Free a body that nobody reads."""
    if outcome.reply is not None and isinstance(outcome.reply.body, Stream):
        outcome.reply.body.abandon()
