"""A caller that is cancelled at any await of the cache leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs import CODECS
from proxy.batching.keys import shared_fields
from proxy.caching.cache import Cache
from proxy.caching.entries import Seal
from proxy.caching.fetching import Fetcher
from proxy.caching.generations import Generations
from proxy.caching.guard import Guard
from proxy.caching.policy import CachePolicy
from proxy.caching.questions import Interpreter
from proxy.caching.seeking import Seeker
from proxy.caching.store import Store
from proxy.exchange import Call, Reply, Stream
from proxy.timing import Deadline
from tests.support.batching import JSON_FIELDS, HeldUpstream, predict_call, turns
from tests.support.caching import PREDICT, field_rules, policy
from tests.support.caching_tiers import ScriptedTier
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Bench:
    """A cache before a held storage and a held backend."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tier = ScriptedTier()
        self.upstream = HeldUpstream(is_held=True)
        generations = Generations(lambda: b"t")
        self.store = Store(
            1 << 20,
            generations,
            clock=self.clock,
            now=self.clock.now,
            seal=Seal(),
            guard=Guard(lambda: self.tier, 60.0, self.clock),
        )
        fetcher = Fetcher(self.store, generations, shared_fields, self.clock.now)
        self.seeker = Seeker(fetcher, self.clock)
        self.cache = Cache(
            self.store,
            generations,
            Interpreter(field_rules, CODECS, {}),
            self.seeker,
            metadata=CachePolicy(),
            upstreams=("model",),
        )

    async def ask(self, call: Call | None = None) -> Reply:
        return await self.cache.serve(call or predict_call(1.5), PREDICT, policy(), self.upstream.exchange)

    def assert_clean(self) -> None:
        assert self.seeker.in_flight == 0
        assert self.upstream.in_flight == 0
        assert not self.seeker._single._tasks
        assert len(self.clock.pending) == 1  # the keeper's own

    async def cancelled(self, asking: asyncio.Task[Reply]) -> None:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await turns()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.cache.start()
    await turns()
    yield bench
    bench.tier.release()
    bench.upstream.release_all()
    await bench.cache.stop()


def asking(bench: Bench, call: Call | None = None) -> asyncio.Task[Reply]:
    return asyncio.get_running_loop().create_task(bench.ask(call))


async def test_while_the_question_still_arrives(bench: Bench) -> None:
    body = Stream(None)
    task = asking(bench, Call(b"POST", b"/v1/models/digits:predict", JSON_FIELDS, body))
    await turns()
    await bench.cancelled(task)
    bench.assert_clean()


async def test_while_the_storage_is_asked(bench: Bench) -> None:
    bench.tier.hold()
    task = asking(bench)
    await turns()
    assert bench.tier.reads
    await bench.cancelled(task)
    bench.assert_clean()
    assert bench.upstream.calls == []
    assert bench.store.errors == {}


async def test_while_the_backend_is_asked(bench: Bench) -> None:
    task = asking(bench, predict_call(1.5, deadline=Deadline(bench.clock.now() + 9)))
    await turns()
    assert bench.upstream.in_flight == 1
    await bench.cancelled(task)
    bench.assert_clean()
    assert len(bench.upstream.cancelled) == 1


async def test_in_the_turn_in_which_the_flight_starts(bench: Bench) -> None:
    task = asking(bench)
    await asyncio.sleep(0)
    await bench.cancelled(task)
    bench.assert_clean()


async def test_while_waiting_for_anothers_flight(bench: Bench) -> None:
    first = asking(bench)
    await turns()
    second = asking(bench)
    await turns()
    await bench.cancelled(second)
    assert bench.upstream.in_flight == 1
    bench.upstream.release()
    assert (await first).status == 200
    await turns()
    bench.assert_clean()


async def test_in_the_turn_in_which_the_answer_came(bench: Bench) -> None:
    body = Stream(None)
    bench.upstream.answer = lambda _: Reply(200, (), body)
    task = asking(bench)
    await turns()
    (flight_task,) = bench.seeker._single._tasks.values()
    flight_task.add_done_callback(
        lambda _: task.cancel()
    )  # after the answer was handed over, before it is seen
    bench.upstream.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body._closed
    bench.assert_clean()


async def test_at_its_deadline(bench: Bench) -> None:
    task = asking(bench, predict_call(1.5, deadline=Deadline(bench.clock.now() + 1)))
    await turns()
    bench.clock.advance(1.0)
    with pytest.raises(Exception, match="deadline"):
        await task
    await turns()
    bench.assert_clean()
