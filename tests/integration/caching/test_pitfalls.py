"""What goes wrong when aiohttp-client-cache's session is put on a proxy's path, each held not to happen here."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from proxy.caching.tiers.base import Record
from proxy.caching.tiers.redis import RedisTier
from proxy.caching.tiers.sqlite import SqliteTier
from proxy.config.fields import Secret
from proxy.exchange import Call, Reply, Stream
from tests.support.batching import JSON_FIELDS, HeldUpstream, predict, predict_call, turns
from tests.support.caching import (
    EPOCH,
    INFER,
    PREDICT,
    a_cache,
    answer_tensors,
    infer_call,
    policy,
    status_of,
)
from tests.support.clock import FakeClock
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proxy.caching.policy import CachePolicy


class Bench:
    def __init__(
        self, answer: Callable[[Call], Reply] = predict, *, is_held: bool = False, **settings: object
    ) -> None:
        self.clock = FakeClock()
        self.upstream = HeldUpstream(answer, is_held=is_held)
        self.cache = a_cache(self.clock, timeout=5.0, **settings)

    async def ask(self, call: Call, rule: CachePolicy | None = None) -> Reply:
        subject = INFER if b"/v2/" in call.target else PREDICT
        return await self.cache.serve(call, subject, rule or policy(), self.upstream.exchange)


def with_fields(*headers: tuple[bytes, bytes]) -> Call:
    return predict_call(1.5, headers=(*JSON_FIELDS, *headers))


def saying(*headers: tuple[bytes, bytes]) -> Callable[[Call], Reply]:
    return lambda call: Reply(200, (*JSON_FIELDS, *headers), predict(call).body)


async def test_01_requests_whose_answers_are_not_kept_do_not_queue_behind_each_other() -> None:
    bench = Bench(saying((b"Cache-Control", b"no-store")))
    await bench.ask(predict_call(1.5))
    bench.upstream.is_held = True
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        assert bench.upstream.in_flight == 20
        bench.upstream.release_all()


async def test_02_a_stream_is_handed_on_before_its_end() -> None:
    body = Stream(None)
    body.feed(b"data: first\n\n")
    bench = Bench(lambda _: Reply(200, ((b"Content-Type", b"text/event-stream"),), body))
    reply = await bench.ask(predict_call(1.5))
    assert reply.body is body
    assert not body.is_ended
    body.abandon()


async def test_03_no_client_can_pin_an_answer() -> None:
    bench = Bench()
    for directive in (b"no-cache", b"max-age=999999999", b"max-stale", b"immutable"):
        await bench.ask(with_fields((b"Cache-Control", directive)), policy(ttl=10.0))
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_04_memory_is_bounded_and_the_dead_leave_unasked() -> None:
    bench = Bench(max_bytes=1 << 20)
    await bench.cache.start()
    for number in range(3000):
        await bench.ask(predict_call(number + 0.5), policy(ttl=10.0))
    lru = bench.cache.store.memory.lru
    assert lru.evicted > 0
    assert lru.nbytes <= 1 << 20
    for _ in range(3):
        bench.clock.advance(5.0)
        await turns()
    assert len(lru) == 0
    await bench.cache.stop()


@pytest.mark.parametrize("field", [b"Accept", b"Authorization", b"Cookie", b"X-Tenant"])
async def test_05_another_caller_or_another_format_is_another_question(field: bytes) -> None:
    bench = Bench()
    await bench.ask(with_fields((field, b"one")))
    assert status_of(await bench.ask(with_fields((field, b"two")))) == "fwd=uri-miss; stored"
    assert status_of(await bench.ask(with_fields((field.upper(), b"one")))).startswith("hit")
    traced = with_fields((field, b"one"), (b"traceparent", b"00-aa-bb-01"))
    assert status_of(await bench.ask(traced)).startswith("hit")


async def test_06_ids_are_left_out_of_bytes_and_streamed_bodies_have_keys() -> None:
    bench = Bench(answer_tensors)
    await bench.ask(infer_call([1.5], ident="a"))
    streamed = infer_call([1.5], ident="b")
    assert isinstance(streamed.body, bytes)
    body = Stream(None)
    for start in range(0, len(streamed.body), 10):
        body.feed(streamed.body[start : start + 10])
    body.end()
    streamed.body = body
    reply = await bench.ask(streamed)
    assert status_of(reply).startswith("hit")
    assert isinstance(reply.body, bytes)
    assert msgspec.json.decode(reply.body)["id"] == "b"


async def test_07_the_backends_word_counts() -> None:
    bench = Bench(saying((b"Cache-Control", b"max-age=10")))
    await bench.ask(predict_call(1.5), policy(ttl=60.0))
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(predict_call(1.5))).startswith("fwd=uri-miss")
    for said in (b"private", b"no-cache", b"s-maxage=0, must-revalidate"):
        bench = Bench(saying((b"Cache-Control", said)))
        assert "stored" not in status_of(await bench.ask(predict_call(1.5)))


async def test_08_body_and_content_coding_always_agree() -> None:
    bench = Bench(saying((b"Content-Encoding", b"gzip")))
    reply = await bench.ask(with_fields((b"Accept-Encoding", b"gzip")))
    assert bench.upstream.calls[0].header(b"accept-encoding") is None
    assert reply.header(b"content-encoding") == b"gzip"
    assert len(bench.cache.store.memory.lru) == 0
    bench = Bench(saying((b"Content-Length", b"28")))
    await bench.ask(predict_call(1.5))
    hit = await bench.ask(predict_call(1.5))
    assert hit.header(b"content-length") is None


async def test_09_each_redis_entry_lives_as_long_as_it_should(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as url:
        bench = Bench(backend="redis", url=Secret(url))
        await bench.cache.start()
        await bench.ask(predict_call(1.5), policy(ttl=10.0))
        await bench.cache.stop()
        tier = RedisTier(url, 5.0, lambda: EPOCH)
        connection = await tier.get_connection()
        keys = tier.keys()
        (key,) = [key async for key in keys]
        assert 0 < await connection.pttl(tier._name(key)) <= 10_000
        await tier.close()


class Harmful:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self) -> Any:  # noqa: ANN401  pickle's own protocol
        return os.putenv, ("PILLION_TEST_HARM", "done")


async def test_10_what_others_put_into_the_store_is_never_run(tmp_path: Path) -> None:
    path = str(tmp_path / "answers.sqlite")
    bench = Bench(backend="sqlite", url=Secret(path))
    await bench.cache.start()
    await bench.ask(predict_call(1.5))
    await bench.cache.stop()
    tier = SqliteTier(path, 1 << 20)
    keys = tier.keys()
    (key,) = [key async for key in keys]
    await tier.write_many([Record(key, pickle.dumps(Harmful()), EPOCH + 1e6)])
    await tier.close()
    again = Bench(backend="sqlite", url=Secret(path))
    await again.cache.start()
    reply = await again.ask(predict_call(1.5))
    assert (reply.body, status_of(reply)) == (b'{"predictions":[3.0]}', "fwd=uri-miss; stored")
    assert again.cache.store.rejected == 1
    assert "PILLION_TEST_HARM" not in os.environ
    await again.cache.stop()


async def test_11_a_hit_is_a_handful_of_calls() -> None:
    bench = Bench(answer_tensors)
    await bench.ask(infer_call([1.5]))
    calls: list[str] = []
    call, rule = infer_call([1.5]), policy()
    await bench.ask(call, rule)
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        await bench.ask(call, rule)
    finally:
        sys.setprofile(None)
    assert len(calls) < 25, calls


async def test_12_readers_at_once_do_not_disturb_each_other() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        bench.upstream.release_all()
    replies = [task.result() for task in asking] + [await bench.ask(predict_call(1.5)) for _ in range(3)]
    assert len(set(map(id, replies))) == 6
    assert {reply.body for reply in replies} == {b'{"predictions":[3.0]}'}
    replies[3].headers += ((b"X-Mine", b"1"),)
    assert replies[4].header(b"x-mine") is None


async def test_13_a_validation_neither_prolongs_nor_replaces_an_answer() -> None:
    bench = Bench(saying((b"ETag", b'"1"')))
    await bench.ask(predict_call(1.5), policy(ttl=10.0))
    bench.upstream.answer = lambda _: Reply(304, ((b"ETag", b'"1"'),))
    assert (await bench.ask(with_fields((b"If-None-Match", b'"1"')))).status == 304
    bench.upstream.answer = lambda _: Reply(200, JSON_FIELDS, b'{"predictions":[4.0]}')
    assert (
        await bench.ask(with_fields((b"Cache-Control", b"no-cache")), policy(ttl=10.0))
    ).body == b'{"predictions":[4.0]}'
    assert (await bench.ask(predict_call(1.5))).body == b'{"predictions":[4.0]}'
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"
