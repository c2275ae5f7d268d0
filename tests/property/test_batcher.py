"""The batcher under any sequence of arrivals, answers, leavers and time: everybody gets what is theirs.

Callers ask a model that doubles, each about numbers of its own. Whoever is answered must have its own answer;
whoever leaves must disturb nobody; and in the end nothing is left behind.
"""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import DeadlineExceeded, ProxyError, Reset
from proxy.exchange import Call, Reply
from tests.support.batching import Stage, policy, predict, predict_call, predictions, turns

RULES = (
    policy(),
    policy(inflight=3),
    policy(mode="window", items={"least": 3, "start": 3, "most": 3}, max_wait="20ms"),
    policy(items={"least": 1, "start": 2, "most": 2}),
)

arrivals = st.tuples(
    st.just("arrive"),
    st.integers(1, 3),
    st.sampled_from(("a", "b")),
    st.sampled_from((0.03, 1e9)),
    st.booleans(),
)
steps = st.lists(
    st.one_of(
        arrivals,
        arrivals,
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("answer"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from((0.001, 0.02, 0.06))),
        st.tuples(st.just("turn"), st.integers(1, 8)),
    ),
    max_size=40,
)


def answer_like(mood: str) -> object:
    """A backend that is well, refuses some numbers, cannot be cut, or breaks off now and then."""

    def answer(call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        if mood == "poison" and b"7." in call.body:
            return Reply(400, (), b"seven")
        if mood == "garbled" and call.body.count(b",") > 0:
            return Reply(200, (), b'{"predictions":[]}')
        if mood == "broken" and b"3." in call.body:
            raise Reset("gone")
        return predict(call)

    return answer


async def play(moves: list[tuple[object, ...]], rules: int, mood: str) -> None:
    stage = Stage()
    stage.upstream.answer = answer_like(mood)  # type: ignore[assignment]
    asked: dict[asyncio.Task[Reply], list[float]] = {}
    left: set[asyncio.Task[Reply]] = set()
    for move in moves:
        match move:
            case ("arrive", int(count), str(tenant), float(patience), bool(is_newest)):
                numbers = [len(asked) + 0.25 * index for index in range(count)]
                headers = ((b"Authorization", tenant.encode()),)
                call = predict_call(
                    *map(float, numbers), headers=headers, deadline=stage.clock.now() + patience
                )
                call.is_newest = is_newest
                asked[stage.submit(call, RULES[rules])] = numbers
            case ("leave", int(who)) if asked:
                task = list(asked)[who % len(asked)]
                if task.cancel():
                    left.add(task)
            case ("answer", int(which)) if stage.upstream.in_flight:
                stage.upstream.release(which % stage.upstream.in_flight)
            case ("wait", float(span_s)):
                stage.clock.advance(span_s)
            case ("turn", int(count)):
                await turns(count)
    await finish(stage)
    for task, numbers in asked.items():
        check(task, numbers, mood, has_left=task in left)
    snapshot = stage.batcher.snapshot()
    assert snapshot["in_flight"] == 0
    assert all(slots["in_flight"] == slots["waiting"] == 0 for slots in snapshot["slots"])  # type: ignore[attr-defined]
    assert not list(stage.batcher.waiting())
    await stage.batcher.close()
    assert not stage.clock.pending


async def finish(stage: Stage) -> None:
    """The backend answers everything from now on, and time passes."""
    stage.upstream.release_all()
    await turns()  # those who have not come in yet do
    await stage.batcher.drain()
    await turns()
    assert all(task.done() for task in stage.tasks)


def check(task: asyncio.Task[Reply], numbers: list[float], mood: str, *, has_left: bool) -> None:
    if task.cancelled():
        assert has_left
        return
    error = task.exception()
    if error is not None:
        assert isinstance(error, ProxyError)
        assert isinstance(error, DeadlineExceeded) or mood == "broken"
        return
    reply = task.result()
    if reply.status != 200:
        assert mood == "poison"
        assert any(7 <= number < 8 for number in numbers)
    elif reply.body != b'{"predictions":[]}':  # what a garbled backend says to a lone call is passed on
        assert predictions(reply) == [2 * number for number in numbers]


@given(steps, st.integers(0, len(RULES) - 1), st.sampled_from(("well", "poison", "garbled", "broken")))
@settings(deadline=None)
def test_everybody_gets_what_is_theirs_whatever_happens(
    moves: list[tuple[object, ...]], rules: int, mood: str
) -> None:
    asyncio.run(play(moves, rules, mood))
