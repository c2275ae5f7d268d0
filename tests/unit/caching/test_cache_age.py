"""Answers that are old: given where that is allowed, forgotten where a model or its server is another."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import ConnectFailed, ProxyError, ReadTimeout, Reset
from proxy.exchange import Call, Reply
from tests.support.batching import JSON_FIELDS, predict, predict_call, turns
from tests.support.cache_bench import CONTROL, Bench, demanding, numbers, raising, saying
from tests.support.caching import METADATA, policy, status_of


# ------------------------------------------------------------------ stale answers
async def test_when_the_backend_fails_an_old_answer_is_given_where_allowed() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_if_error=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    for failing in (raising(ReadTimeout("slow")), saying(status=503)):
        bench.upstream.answer = failing
        reply = await bench.ask(predict_call(1.5))
        assert (numbers(reply), reply.header(b"age")) == ([3.0], b"6")
        assert status_of(reply) == "hit; fwd=stale; detail=upstream_error; ttl=-1"
    assert bench.cache.results["stale"] == 2
    bench.upstream.answer = raising(ReadTimeout("slow"))
    with pytest.raises(ReadTimeout):
        await bench.ask(demanding(b"max-age=600"))
    bench.clock.advance(10.0)
    with pytest.raises(ReadTimeout):
        await bench.ask(predict_call(1.5))


async def test_those_who_share_a_failure_get_the_old_answer_too() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_if_error=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.answer, bench.upstream.is_held = raising(ReadTimeout("slow")), True
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(2)]
        await turns()
        bench.upstream.release()
    assert [numbers(task.result()) for task in asking] == [[3.0], [3.0]]


async def test_a_stale_answer_is_given_at_once_while_a_new_one_is_fetched() -> None:
    bench = Bench(rule=policy(ttl=5.0, stale_while_revalidate=10.0))
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.is_held = True
    for _ in range(3):
        assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=-1"
    await turns()
    assert bench.upstream.in_flight == 1
    bench.upstream.release()
    await turns()
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=5"
    assert bench.cache.results == {"miss": 1, "stale": 3, "hit": 1}


async def test_a_refresh_that_fails_is_nobodys_failure() -> None:
    bench = Bench(raising(Reset("x")), policy(ttl=5.0, stale_while_revalidate=10.0))
    bench.upstream.answer = predict
    await bench.ask(predict_call(1.5))
    bench.clock.advance(6.0)
    bench.upstream.answer = raising(ReadTimeout("x"))
    assert numbers(await bench.ask(predict_call(1.5))) == [3.0]
    await turns()
    assert bench.cache.seeker.in_flight == 0


# ------------------------------------------------------------------ generations
async def test_a_load_through_the_proxy_makes_answers_old() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    await bench.ask(predict_call(0.5), CONTROL)
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_a_load_that_failed_makes_answers_old_too() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = raising(ReadTimeout("x"))
    with pytest.raises(ReadTimeout):
        await bench.ask(predict_call(0.5), CONTROL)
    bench.upstream.answer = predict
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


async def test_an_answer_under_way_during_a_load_is_not_kept() -> None:
    bench = Bench(is_held=True)
    asking = asyncio.get_running_loop().create_task(bench.ask(predict_call(1.5)))
    await turns()
    bench.upstream.is_held = False
    await bench.ask(predict_call(0.5), CONTROL)
    bench.upstream.release_all()
    assert numbers(await asking) == [3.0]
    assert len(bench.cache.store.memory.lru) == 0


@pytest.mark.parametrize("error", [ConnectFailed("gone"), Reset("gone")])
async def test_a_backend_that_was_away_answers_anew(error: ProxyError) -> None:
    bench = Bench(rule=policy(stale_if_error=60.0))
    await bench.ask(predict_call(1.5))
    bench.upstream.answer = raising(error)
    with pytest.raises(type(error)):
        await bench.ask(predict_call(2.5))
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=600"  # still of use while it is away
    bench.upstream.answer = predict
    await bench.ask(predict_call(2.5))
    assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"


# ------------------------------------------------------------------ metadata
async def test_metadata_is_kept_only_where_wanted() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b'{"name":"digits"}'))
    for _ in range(2):
        await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert len(bench.upstream.calls) == 2


async def test_metadata_is_kept_briefly() -> None:
    bench = Bench(
        lambda _: Reply(200, JSON_FIELDS, b'{"name":"digits","id":"1"}'), policy(mode="off"), metadata=2.0
    )
    for _ in range(2):
        reply = await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert (status_of(reply), reply.body) == ("hit; ttl=2", b'{"name":"digits","id":"1"}')
    bench.clock.advance(2.0)
    await bench.ask(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert len(bench.upstream.calls) == 2


async def test_only_reading_metadata_is_a_question() -> None:
    bench = Bench(lambda _: Reply(200, JSON_FIELDS, b"[]"), metadata=2.0)
    for _ in range(2):
        await bench.ask(Call(b"POST", b"/v2/repository/index", JSON_FIELDS, b"{}"), METADATA)
    assert len(bench.upstream.calls) == 2


# ------------------------------------------------------------------ operators
async def test_a_purge_forgets() -> None:
    bench = Bench()
    for upstream, model in (("", ""), ("model", ""), ("", "digits"), ("model", "digits")):
        await bench.ask(predict_call(1.5))
        assert status_of(await bench.ask(predict_call(1.5))).startswith("hit")
        await bench.cache.purge(upstream, model)
        assert status_of(await bench.ask(predict_call(1.5))) == "fwd=uri-miss; stored"
    await bench.cache.purge("model", "another")
    assert status_of(await bench.ask(predict_call(1.5))).startswith("hit")


async def test_stats_tell_what_there_is() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    stats = await bench.cache.stats()
    assert stats["results"] == {"miss": 1}
    assert (stats["in_flight"], stats["storage"]) == (0, None)
    memory = stats["memory"]
    assert isinstance(memory, dict)
    assert memory["entries"] == 1
    assert 0 < memory["bytes"] < memory["max_bytes"]
