"""Equal questions at once are asked once: what callers share, and what they do not."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import DeadlineExceeded, Draining, ProxyError, ReadTimeout
from proxy.exchange import Call, Reply, Stream
from proxy.timing import Deadline
from tests.support.batching import predict, predict_call, turns
from tests.support.cache_bench import Bench, numbers, raising, saying, streaming
from tests.support.caching import status_of


# ------------------------------------------------------------------ single flight
async def test_a_thousand_equal_requests_are_one_upstream_call() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(1000)]
        await turns()
        assert (bench.upstream.in_flight, bench.cache.seeker.in_flight) == (1, 1)
        bench.upstream.release()
    assert {task.result().body for task in asking} == {b'{"predictions":[3.0]}'}
    assert len(bench.upstream.calls) == 1
    assert bench.cache.results == {"miss": 1, "collapsed": 999}
    assert status_of(asking[1].result()) == "fwd=miss; collapsed; ttl=600"


async def test_requests_share_the_items_that_others_wait_for() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5, 2.5)))
        await turns()
        second = group.create_task(bench.ask(predict_call(2.5, 3.5)))
        await turns()
        assert bench.upstream.in_flight == 2
        bench.upstream.release_all()
    assert (numbers(first.result()), numbers(second.result())) == ([3.0, 5.0], [5.0, 7.0])
    assert bench.asked == [[1.5, 2.5], [3.5]]


async def who_stays_when_the_first_leaves(bench: Bench, group: asyncio.TaskGroup) -> asyncio.Task[Reply]:
    first = group.create_task(bench.ask(predict_call(1.5)))
    await turns()
    second = group.create_task(bench.ask(predict_call(1.5)))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    return second


async def test_when_the_first_caller_leaves_the_others_lose_nothing() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        second = await who_stays_when_the_first_leaves(bench, group)
        assert bench.upstream.in_flight == 1
        bench.upstream.release()
    assert numbers(second.result()) == [3.0]
    assert len(bench.upstream.calls) == 1


async def test_when_all_have_left_the_upstream_call_is_given_up() -> None:
    bench = Bench(is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        for task in asking:
            task.cancel()
        await turns()
    assert len(bench.upstream.cancelled) == 1
    assert bench.cache.seeker.in_flight == 0
    bench.upstream.is_held = False
    assert numbers(await bench.ask(predict_call(1.5))) == [3.0]


async def test_equal_callers_get_the_same_failure_and_nobody_after_them() -> None:
    bench = Bench(saying((b"X-Trace", b"t"), status=503), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        bench.upstream.release()
    assert [task.result().status for task in asking] == [503] * 3
    assert asking[0].result().header(b"x-trace") == b"t"
    assert asking[1].result().header(b"x-trace") is None
    assert status_of(asking[1].result()) == "fwd=miss; collapsed; detail=status"
    bench.upstream.is_held, bench.upstream.answer = False, predict
    assert (await bench.ask(predict_call(1.5))).status == 200
    assert len(bench.upstream.calls) == 2


async def failures(asking: list[asyncio.Task[Reply]]) -> list[BaseException | None]:
    await asyncio.wait(asking)
    return [task.exception() for task in asking]


async def test_equal_callers_get_copies_of_the_same_error() -> None:
    bench = Bench(raising(ReadTimeout("slow")), is_held=True)
    loop = asyncio.get_running_loop()
    asking = [loop.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
    await turns()
    bench.upstream.release()
    errors = await failures(asking)
    assert [str(error) for error in errors] == ["slow"] * 3
    assert len(set(map(id, errors))) == 3
    assert len(bench.upstream.calls) == 1


async def test_a_failure_that_may_be_due_to_other_items_is_not_shared() -> None:
    bench = Bench(saying(status=400), is_held=True)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.ask(predict_call(1.5, -666.0)))
        await turns()
        second = group.create_task(bench.ask(predict_call(1.5)))
        await turns()
        bench.upstream.release()
        await turns()
        bench.upstream.answer = predict
        bench.upstream.release_all()
    assert first.result().status == 400
    assert numbers(second.result()) == [3.0]
    assert status_of(second.result()) == "fwd=miss; detail=items; stored"


async def test_an_answer_that_may_not_be_kept_is_not_shared() -> None:
    bench = Bench(saying((b"Cache-Control", b"private")), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(3)]
        await turns()
        bench.upstream.release()
        await turns()
        assert bench.upstream.in_flight == 2  # at once, not one after the other
        bench.upstream.release_all()
    assert len(bench.upstream.calls) == 3
    assert status_of(asking[1].result()) == "fwd=miss; detail=not_kept"


async def test_a_stream_goes_to_the_caller_who_asked_first() -> None:
    bench = Bench(streaming(b"text/event-stream"), is_held=True)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(bench.ask(predict_call(1.5))) for _ in range(2)]
        await turns()
        bench.upstream.release()
        await turns()
        bench.upstream.release_all()
    bodies = [task.result().body for task in asking]
    assert all(isinstance(body, Stream) for body in bodies)
    assert bodies[0] is not bodies[1]


async def test_a_stream_that_nobody_can_take_any_more_is_freed() -> None:
    body = Stream(None)
    bench = Bench(lambda _: Reply(200, (), body), is_held=True)
    async with asyncio.TaskGroup() as group:
        second = await who_stays_when_the_first_leaves(bench, group)
        bench.upstream.release()
        await turns()
        assert body._closed
        bench.upstream.answer = predict
        bench.upstream.release_all()
    assert numbers(second.result()) == [3.0]


# ------------------------------------------------------------------ deadlines and the end
async def test_a_waiting_caller_gives_up_at_its_own_deadline() -> None:
    bench = Bench(is_held=True)
    loop = asyncio.get_running_loop()
    patient = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    hasty = loop.create_task(bench.ask(predict_call(1.5, deadline=Deadline(bench.clock.now() + 1))))
    await turns()
    bench.clock.advance(1.0)
    with pytest.raises(DeadlineExceeded):
        await hasty
    bench.upstream.release()
    assert numbers(await patient) == [3.0]
    assert not bench.clock.pending


async def test_another_callers_deadline_is_not_shared() -> None:
    def late(call: Call) -> Reply:
        raise DeadlineExceeded

    bench = Bench(late, is_held=True)
    loop = asyncio.get_running_loop()
    hasty = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    patient = loop.create_task(bench.ask(predict_call(1.5)))
    await turns()
    bench.upstream.release()
    await turns()
    bench.upstream.answer = predict
    bench.upstream.release_all()
    assert numbers(await patient) == [3.0]
    with pytest.raises(DeadlineExceeded):
        await hasty


async def test_the_end_reaches_those_who_wait() -> None:
    bench = Bench(is_held=True)
    await bench.cache.start()
    waiting = asyncio.get_running_loop().create_task(bench.ask(predict_call(1.5)))
    await turns()
    await bench.cache.drain(0.0)
    await bench.cache.stop()
    with pytest.raises(Draining):
        await waiting
    assert bench.upstream.in_flight == 0


async def test_a_fault_of_ours_is_reported_and_ends_the_wait() -> None:
    bench = Bench(raising(KeyError("bug")))
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    with pytest.raises(ProxyError):
        await bench.ask(predict_call(1.5))
    assert isinstance(reported[0], KeyError)
