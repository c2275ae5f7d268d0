"""Where answers are kept: a bounded memory in front, and behind it a storage that may be slow, dead or full
of lies.

Owned by the application as a component of its lifecycle. `get` and `put` are synchronous and touch the memory
only. `recall` waits for the storage, at most its time-out. Two tasks belong to the store and end with it: the
writer sends what was put to the storage, many at a time (it waits for something to write), and the keeper
sweeps the dead away and exchanges generation tokens (it waits for one timer).

What was put and is not written yet is bounded; beyond the bound the oldest is dropped, because a storage that
cannot keep up must not cost memory. Entries of the storage are used only once its generation tokens were
read."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from proxy.caching.entries import BadSeal, Entry
from proxy.caching.tiers.base import Record
from proxy.caching.tiers.memory import MemoryCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from proxy.caching.entries import Seal
    from proxy.caching.generations import Generations
    from proxy.caching.guard import Guard
    from proxy.caching.tiers.base import Tier
    from proxy.timing import Clock

__all__ = ("Store",)

_MOST_UNWRITTEN = 4096
_WRITE_AT_ONCE = 256
_KEEP_EVERY_S = 5.0
_SWEEP_EVERY_S = 60.0
_PATIENCE = 20.0  # times the time-out, for what no request waits for


class Store:
    """Entries by key. `now` gives seconds since the epoch; `guard` is None when there is only the memory."""

    def __init__(
        self,
        max_bytes: int,
        generations: Generations,
        *,
        clock: Clock,
        now: Callable[[], float],
        seal: Seal,
        guard: Guard | None = None,
    ) -> None:
        self.memory = MemoryCache(max_bytes)
        self.get = self.memory.lru.get
        self.touch = self.memory.lru.touch
        self.rejected = 0
        self.dropped = 0
        self._generations = generations
        self._clock = clock
        self._now = now
        self._seal = seal
        self._guard = guard
        self._has_tokens = False
        self._unwritten: OrderedDict[bytes, Entry] = OrderedDict()
        self._something = asyncio.Event()
        self._due = asyncio.Event()
        self._is_stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Read the storage's tokens, begin to keep house; a dead storage is no reason not to start."""
        loop = asyncio.get_running_loop()
        await self.exchange_tokens()
        self._keeper = loop.create_task(self._keep(), name="cache keeper")
        if self._guard is not None:
            self._writer = loop.create_task(self._write(self._guard), name="cache writer")

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: others still ask while they drain."""

    async def stop(self) -> None:
        """Write what is left, then close the storage."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
        if self._writer is not None:
            self._is_stopping = True
            self._something.set()
            await asyncio.wait((self._writer,))
        if self._guard is not None:
            await self.exchange_tokens()
            await self._guard.close()

    # ------------------------------------------------------------- entries
    def put(self, key: bytes, entry: Entry) -> None:
        """Keep `entry` in memory, and in the storage as soon as it can be written."""
        self.memory.lru.put(key, entry)
        if self._guard is not None and not self._guard.is_paused:
            if len(self._unwritten) >= _MOST_UNWRITTEN:
                self._unwritten.popitem(last=False)
                self.dropped += 1
            self._unwritten[key] = entry
            self._something.set()

    async def recall(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Those of `keys` that the storage has; they are in memory from now on."""
        if self._guard is None or not self._has_tokens:
            return {}
        names = {key.hex(): key for key in keys}
        nothing: dict[str, bytes] = {}
        found = await self._guard.ask("read", lambda tier: tier.read_many(list(names)), nothing)
        entries = {}
        for name, sealed in found.items():
            try:
                entry = self._seal.open(name, sealed)
            except BadSeal:
                self.rejected += 1
                continue
            if entry.dead_at > self._now():
                entries[names[name]] = entry
                self.memory.lru.put(names[name], entry)
        return entries

    async def purge(self) -> None:
        """Forget everything."""
        self._generations.renew_all()  # other processes learn it by this
        await self.memory.clear()
        self._unwritten.clear()
        if self._guard is not None:
            await self._guard.ask("clear", lambda tier: tier.clear(), None, patience=_PATIENCE)
        await self.exchange_tokens()

    # ------------------------------------------------------------- what operators ask
    def memory_stats(self) -> dict[str, int]:
        """Counts of the memory."""
        lru = self.memory.lru
        return {
            "entries": len(lru),
            "bytes": lru.nbytes,
            "max_bytes": lru.max_bytes,
            "evicted": lru.evicted,
            "expired": lru.expired,
        }

    async def storage_stats(self) -> dict[str, object] | None:
        """Counts of the storage, None when there is none; `entries` is None when it does not answer."""
        guard = self._guard
        if guard is None:
            return None
        entries = await guard.ask("size", lambda tier: tier.size(), None, patience=_PATIENCE)
        return {
            "entries": entries,
            "is_paused": guard.is_paused,
            "errors": dict(guard.errors),
            "rejected": self.rejected,
            "dropped": self.dropped,
            "unwritten": len(self._unwritten),
        }

    @property
    def errors(self) -> Mapping[str, int]:
        """Failures of the storage by operation; entries that were no entries of ours are ``open``."""
        return Counter(self._guard.errors if self._guard is not None else {}) + Counter(open=self.rejected)

    # ------------------------------------------------------------- the writer
    async def _write(self, guard: Guard) -> None:
        while not self._is_stopping:
            await self._something.wait()
            self._something.clear()
            while self._unwritten:
                await self._write_some(guard)

    async def _write_some(self, guard: Guard) -> None:
        records: list[Record] = []
        while self._unwritten and len(records) < _WRITE_AT_ONCE:
            key, entry = self._unwritten.popitem(last=False)
            name = key.hex()
            records.append(Record(name, self._seal.close(name, entry), entry.dead_at))
        await guard.ask("write", lambda tier: tier.write_many(records), None, patience=_PATIENCE)

    # ------------------------------------------------------------- the keeper
    async def _keep(self) -> None:
        sweep_at = 0.0
        while True:
            await self._sleep(_KEEP_EVERY_S)
            await self.exchange_tokens()
            await self._sweep_memory()
            if self._guard is not None and self._clock.now() >= sweep_at:
                sweep_at = self._clock.now() + _SWEEP_EVERY_S
                await self._guard.ask("sweep", lambda tier: tier.sweep(self._now()), None, patience=_PATIENCE)

    async def _sweep_memory(self) -> None:
        """Forget the dead, some at a time: requests get their turn in between."""
        while self.memory.lru.sweep(self._now()):  # noqa: ASYNC110  waits for nothing, lets others through
            await asyncio.sleep(0)

    async def exchange_tokens(self) -> None:
        """Write the tokens that are news, read those of others."""
        guard = self._guard
        if guard is None:
            return
        news = self._generations.unsaved()
        if news:

            async def write(tier: Tier) -> None:
                await tier.write_tokens(news)
                self._generations.saved(news)

            await guard.ask("write_tokens", write, None, patience=_PATIENCE)
        tokens = await guard.ask("read_tokens", lambda tier: tier.read_tokens(), None, patience=_PATIENCE)
        if tokens is not None:
            self._generations.adopt(tokens)
            self._has_tokens = True

    async def _sleep(self, span_s: float) -> None:
        self._due.clear()
        timer = self._clock.call_at(self._clock.now() + span_s, self._due.set)
        try:
            await self._due.wait()
        finally:
            timer.cancel()
