from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from proxy.caching import store as module
from proxy.caching.entries import Entry, Seal
from proxy.caching.generations import Generations
from proxy.caching.guard import Guard
from proxy.caching.store import Store
from proxy.caching.tiers.base import Verbatim
from tests.support.batching import turns
from tests.support.caching_tiers import ScriptedTier
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = bytes(range(32))


class Bench:
    """A store before a scripted storage; `another` is a second process that shares the storage."""

    def __init__(self, tier: ScriptedTier | None = None, secret: str = "", *, has_tier: bool = True) -> None:
        self.clock = FakeClock()
        self.tier = tier or ScriptedTier()
        numbers = count()
        self.generations = Generations(lambda: b"%d-%d" % (id(self), next(numbers)))
        self.guard = Guard(lambda: self.tier, 30.0, self.clock) if has_tier else None
        self.store = Store(
            1 << 20,
            self.generations,
            clock=self.clock,
            now=self.clock.now,
            seal=Seal(secret),
            guard=self.guard,
        )

    def entry(self, lives_s: float = 10.0) -> Entry:
        until = self.clock.now() + lives_s
        return Entry("m", b"OK", (), b"{}", self.clock.now(), until, until, until)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.store.start()
    yield bench
    await bench.store.stop()


async def test_what_is_put_is_there_at_once_and_in_the_storage_soon(bench: Bench) -> None:
    entry = bench.entry()
    bench.store.put(KEY, entry)
    assert bench.store.get(KEY) is entry
    await turns()
    assert list(bench.tier.records) == [KEY.hex()]
    assert bench.tier.records[KEY.hex()].dead_at == entry.dead_at


async def test_much_at_once_is_written_in_few_operations(bench: Bench) -> None:
    for number in range(600):
        bench.store.put(number.to_bytes(32, "big"), bench.entry())
    await turns()
    assert (len(bench.tier.records), bench.tier.writes) == (600, 3)


async def test_another_process_finds_what_was_kept(bench: Bench) -> None:
    entry = bench.entry()
    bench.store.put(KEY, entry)
    await turns()
    another = Bench(bench.tier)
    await another.store.start()
    assert await another.store.recall([KEY, bytes(32)]) == {KEY: entry}
    assert another.store.get(KEY) == entry
    await another.store.stop()


async def test_the_dead_are_not_found(bench: Bench) -> None:
    bench.store.put(KEY, bench.entry(10.0))
    await turns()
    another = Bench(bench.tier)
    await another.store.start()
    another.clock.advance(10.0)
    assert await another.store.recall([KEY]) == {}
    await another.store.stop()


async def test_what_was_signed_with_another_secret_is_absent_and_counted(bench: Bench) -> None:
    bench.store.put(KEY, bench.entry())
    await turns()
    another = Bench(bench.tier, "rotated")
    await another.store.start()
    assert await another.store.recall([KEY]) == {}
    assert another.store.errors == {"open": 1}
    await another.store.stop()


async def test_a_storage_whose_tokens_are_unknown_is_not_believed() -> None:
    bench = Bench()
    bench.tier.error = ConnectionError("down")
    await bench.store.start()
    bench.tier.error = None
    bench.clock.advance(1.0)
    assert await bench.store.recall([KEY]) == {}
    assert bench.tier.reads == []
    await turns()
    bench.clock.advance(module._KEEP_EVERY_S)
    await turns()
    await bench.store.recall([KEY])
    assert bench.tier.reads == [[KEY.hex()]]
    await bench.store.stop()


async def test_a_renewal_reaches_other_processes(bench: Bench) -> None:
    another = Bench(bench.tier)
    await another.store.start()
    before = another.generations.of("up", "m")
    bench.generations.renew("up", "m")
    await turns()
    for each in (bench, another):
        each.clock.advance(module._KEEP_EVERY_S)
        await turns()
    assert another.generations.of("up", "m") == bench.generations.of("up", "m") != before
    await another.store.stop()


async def test_a_renewal_outlives_a_storage_that_was_away(bench: Bench) -> None:
    bench.generations.renew("up")
    bench.tier.error = ConnectionError("down")
    bench.clock.advance(module._KEEP_EVERY_S)
    await turns()
    assert bench.tier.tokens == {}
    bench.tier.error = None
    bench.clock.advance(module._KEEP_EVERY_S)
    await turns()
    assert bench.tier.tokens == {"up": bench.generations._tokens["up"]}


async def test_the_keeper_sweeps_memory_often_and_the_storage_now_and_then(bench: Bench) -> None:
    bench.store.put(KEY, bench.entry(1.0))
    await turns()
    for _ in range(3):
        bench.clock.advance(module._KEEP_EVERY_S)
        await turns()
    assert len(bench.store.memory.lru) == 0
    assert len(bench.tier.swept_at) == 1
    for _ in range(13):
        bench.clock.advance(module._KEEP_EVERY_S)
        await turns()
    assert len(bench.tier.swept_at) == 2


async def test_a_large_sweep_lets_others_through(bench: Bench) -> None:
    for number in range(1500):
        bench.store.memory.lru.put(number.to_bytes(32, "big"), bench.entry(1.0))
    bench.clock.advance(module._KEEP_EVERY_S)
    seen = []
    for _ in range(8):
        await turns(1)
        seen.append(len(bench.store.memory.lru))
    assert 500 in seen
    assert seen[-1] == 0


async def test_a_storage_that_cannot_keep_up_costs_no_memory(bench: Bench) -> None:
    bench.tier.hold()
    for number in range(module._MOST_UNWRITTEN + 10):
        bench.store.put(number.to_bytes(32, "big"), bench.entry())
    assert (bench.store.dropped, len(bench.store._unwritten)) == (10, module._MOST_UNWRITTEN)
    bench.tier.release()
    await turns(200)


async def test_nothing_is_queued_for_a_storage_that_is_left_alone(bench: Bench) -> None:
    bench.tier.error = ConnectionError("down")
    bench.store.put(KEY, bench.entry())
    await turns()
    bench.store.put(bytes(32), bench.entry())
    assert len(bench.store._unwritten) == 0
    assert bench.store.errors == {"write": 1}
    bench.tier.error = None


async def test_a_purge_empties_everything_and_tells_the_others(bench: Bench) -> None:
    bench.store.put(KEY, bench.entry())
    await turns()
    before = bench.generations.of("up", "m")
    await bench.store.purge()
    assert (len(bench.store.memory.lru), bench.tier.records) == (0, {})
    assert bench.generations.of("up", "m") != before
    assert bench.tier.tokens


async def test_the_last_answers_are_written_at_the_end() -> None:
    bench = Bench()
    await bench.store.start()
    bench.store.put(KEY, bench.entry())
    await bench.store.drain(0.0)
    await bench.store.stop()
    assert list(bench.tier.records) == [KEY.hex()]
    assert bench.tier.is_closed


async def test_without_a_storage_there_is_only_the_memory() -> None:
    bench = Bench(has_tier=False)
    await bench.store.start()
    bench.store.put(KEY, bench.entry())
    assert await bench.store.recall([bytes(32)]) == {}
    await turns()
    bench.clock.advance(module._KEEP_EVERY_S)
    await turns()
    await bench.store.purge()
    assert await bench.store.storage_stats() is None
    assert bench.store.errors == {}
    await bench.store.stop()


async def test_stats_of_the_storage(bench: Bench) -> None:
    bench.store.put(KEY, bench.entry())
    await turns()
    stats = {"is_paused": False, "errors": {}, "rejected": 0, "dropped": 0, "unwritten": 0}
    assert await bench.store.storage_stats() == {"entries": 1, **stats}


async def test_the_memory_is_a_storage_like_any_other(bench: Bench) -> None:
    memory, entry, key = bench.store.memory, bench.entry(), KEY.hex()
    await memory.write(key, entry)
    assert await memory.contains(key)
    assert (await memory.read(key), await memory.size()) == (entry, 1)
    keys = memory.keys()
    assert [name async for name in keys] == [key]
    assert [item async for item in memory.values()] == [entry]
    await memory.delete(key)
    await memory.bulk_delete({key})
    assert await memory.read(key) is None
    with pytest.raises(TypeError):
        await memory.write(key, b"pickled")


def test_no_serializer_of_ours_pickles() -> None:
    assert Verbatim.loads(Verbatim.dumps(b"cos\nsystem\n.")) == b"cos\nsystem\n."
