"""Answers calls that were answered before, and lets equal calls in flight share one answer.

Owned by the application, one for all upstreams. A hit in memory is answered at once; for everything else it
waits as `seeking` does. It ends with `stop`, which gives up what is in flight and closes the store.

The order of things is the point: the verdict of `questions` and `freshness` comes before any lookup, so that
what may not be kept never queues behind what may."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from proxy.caching.answers import from_entries, noted, only_if_cached
from proxy.caching.explain import key_parts, refused, understood
from proxy.caching.fetching import Errand
from proxy.caching.freshness import Wish, wish_of
from proxy.errors import ConnectFailed, ConnectTimeout, MergeRefused, NoHealthyEndpoint, Reset
from proxy.exchange import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.caching.fetching import Fetch
    from proxy.caching.generations import Generations
    from proxy.caching.policy import CachePolicy
    from proxy.caching.questions import Inquiry, Interpreter, Subject
    from proxy.caching.seeking import Seeker
    from proxy.caching.store import Store
    from proxy.exchange import Call, Reply

__all__ = ("Cache",)

_MOST_BODY = 1 << 20  # bytes of a request; a larger one takes longer to digest than many models to answer
_ANYTHING = Wish()
_GONE = (ConnectFailed, ConnectTimeout, NoHealthyEndpoint, Reset)
"""After these, whoever answers next may have been started anew."""


class Cache:
    """One proxy's cache.

    `metadata` is the policy for metadata (mode ``off``: none is kept); `upstreams` are the names of all
    upstreams. `seen` is told what probes see of their endpoints.
    """

    def __init__(
        self,
        store: Store,
        generations: Generations,
        interpreter: Interpreter,
        seeker: Seeker,
        *,
        metadata: CachePolicy,
        upstreams: Sequence[str],
    ) -> None:
        self.store = store
        self.seeker = seeker
        self.results = seeker.results
        self.seen = generations.seen
        self._generations = generations
        self._interpreter = interpreter
        self._metadata = metadata
        self._upstreams = upstreams
        self._now = seeker.now

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Open the store."""
        await self.store.start()

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: whoever waits is waited for where it was admitted."""

    async def stop(self) -> None:
        """Give up what is in flight, write what was kept."""
        await self.seeker.close()
        await self.store.stop()

    # ------------------------------------------------------------- what operators ask
    async def stats(self) -> dict[str, object]:
        """Everything there is to know, as plain values."""
        return {
            "results": dict(self.results),
            "in_flight": self.seeker.in_flight,
            "memory": self.store.memory_stats(),
            "storage": await self.store.storage_stats(),
        }

    def renew(self, upstream: str, model: str) -> None:
        """The model was loaded anew: what was kept of it need not be what it would answer now."""
        self._generations.renew(upstream, model)

    async def purge(self, upstream: str, model: str) -> None:
        """Forget the answers of one model on one upstream; empty: of all."""
        if not upstream and not model:
            await self.store.purge()
            return
        upstreams = [upstream] if upstream else self._upstreams
        for name in upstreams:
            self._generations.renew(name, model)
        await self.store.exchange_tokens()

    def explain(self, call: Call, match: Subject, policy: CachePolicy) -> dict[str, object]:
        """What would become of `call` here and why, as JSON values. Asks nobody, keeps nothing."""
        if match.route.kind == "metadata":
            policy = self._metadata
        if not _is_question(call, match):
            return refused("not_a_question")
        if policy.mode == "off":
            return refused("off")
        wish = wish_of(call.headers) or _ANYTHING
        if not wish.stores:
            return refused("no_store")
        body = call.body
        if isinstance(body, Stream) or len(body) > _MOST_BODY:
            return refused("large_body")
        generation = self._generations.of(match.route.upstream, match.model)
        try:
            inquiry = self._interpreter.read(call, body, match, policy, generation)
        except MergeRefused as refusal:
            return refused(refusal.why)
        found = understood(inquiry, [self.seeker.known(key, wish) for key in inquiry.keys], policy)
        return found | {"key": key_parts(call, match, inquiry, generation)}

    # ------------------------------------------------------------- a call
    def kept(self, call: Call, match: Subject, policy: CachePolicy) -> Reply | None:
        """The answer to `call` if it is the repetition of one that `serve` has seen, and in memory.

        It saves a hit half of its cost; whatever else becomes of a call is for `serve` to say.
        """
        body = call.body
        if call.head is None or isinstance(body, Stream):
            return None
        generation = self._generations.of(match.route.upstream, match.model)
        inquiry = self._interpreter.again(call, body, match, policy, generation)
        return None if inquiry is None else self._hit(inquiry)

    async def serve(self, call: Call, match: Subject, policy: CachePolicy, fetch: Fetch) -> Reply:
        """The answer to `call`: a kept one, another's, or what `fetch` returns for it; raises `ProxyError`.

        `policy` is the one of the model that `match` names.
        """
        kind = match.route.kind
        fetch = partial(self._watched, match.route.upstream, fetch)
        if kind == "metadata":
            policy = self._metadata
        if policy.mode == "off" or not _is_question(call, match):
            return await (self._control(call, match, fetch) if kind == "control" else fetch(call))
        wish = wish_of(call.headers)
        try:
            errand = await self._understood(call, match, policy, wish, fetch)
        except MergeRefused as refusal:
            self.results["bypass"] += 1
            if wish is not None and wish.only_cached:
                return only_if_cached()
            return noted(await fetch(call), b"fwd=bypass; detail=" + refusal.why.encode())
        if wish is None:
            self._interpreter.note(call, match, policy, errand.inquiry)
            reply = self._hit(errand.inquiry)
            if reply is not None:
                return reply
        return await self.seeker.seek(errand)

    def _hit(self, inquiry: Inquiry) -> Reply | None:
        """The answer to one question from memory, if it is fresh."""
        keys = inquiry.keys
        if len(keys) != 1:
            return None
        entry = self.store.get(keys[0])
        if entry is None or (now := self._now()) >= entry.fresh_until:
            return None
        self.store.touch(keys[0])
        self.results["hit"] += 1
        return from_entries(inquiry, (entry,), now)

    async def _understood(
        self, call: Call, match: Subject, policy: CachePolicy, wish: Wish | None, fetch: Fetch
    ) -> Errand:
        """The errand that `call` is; raises `MergeRefused` when it must not be looked up."""
        body = call.body
        if isinstance(body, Stream):
            call.claim_body()
            whole = await body.gather(_MOST_BODY)
            if whole is None:
                raise MergeRefused("large_body")
            body = call.body = whole
        if wish is None:
            wish = _ANYTHING
        elif not wish.stores:
            raise MergeRefused("no_store")
        generation = self._generations.of(match.route.upstream, match.model)
        inquiry = self._interpreter.read(call, body, match, policy, generation)
        return Errand(call, body, inquiry, policy, wish, match.route.upstream, match.model, generation, fetch)

    async def _watched(self, upstream: str, fetch: Fetch, call: Call) -> Reply:
        """`fetch(call)`, noticing when the backend was away."""
        try:
            reply = await fetch(call)
        except _GONE:
            self._generations.lost(upstream)
            raise
        self._generations.answered(upstream)
        return reply

    async def _control(self, call: Call, match: Subject, fetch: Fetch) -> Reply:
        """Pass on what loads or unloads a model; whatever became of it, its answers are old ones now."""
        try:
            return await fetch(call)
        finally:
            self._generations.renew(match.route.upstream, match.model)


def _is_question(call: Call, match: Subject) -> bool:
    """Whether `call` asks for something that could be answered from memory.

    A gRPC answer is a stream of messages with a status behind it, of which there is nothing to keep.
    """
    kind = match.route.kind
    return not call.is_grpc and (kind == "infer" or (kind == "metadata" and call.method == b"GET"))
