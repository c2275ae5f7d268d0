"""An event stream that begins while its model is loading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ModelLoading, ProxyError
from proxy.exchange import Call, Ledger, Reply, Stream
from proxy.streaming.policy import StreamPolicy
from proxy.streaming.streams import Streams
from proxy.telemetry.metrics import Metrics
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from proxy.exchange import Body

Begin = Callable[[], Awaitable[Reply]]
EVENTS = ((b"Content-Type", b"text/event-stream"),)


class Rig:
    """One call whose answer `says` brings, before streams with a loading heartbeat of ten seconds."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        policy = StreamPolicy.model_validate({"loading_heartbeat": "10s"})
        self.metrics = Metrics("0")
        self.streams = Streams(lambda _model: policy, self.metrics.stream, self.clock, Ledger(1 << 20))
        self.call = Call(b"POST", b"/v1/chat/completions", (), b'{"stream": true}')
        self.answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.is_cancelled = False

    async def work(self) -> Reply:
        try:
            return await self.answered
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    async def begin(self, *, after_s: float) -> Reply:
        """What the client gets when the answer has not come for `after_s`."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.streams.begin_early(self.call, "m", self.work()))
            await turns()
            self.clock.advance(after_s)
            await turns()
            if not task.done():
                task.cancel()
        return task.result()

    async def answer(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: Body) -> None:
        self.answered.set_result(Reply(status, headers, body))
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def early(reply: Reply) -> Stream:
    assert (reply.status, reply.header(b"content-type")) == (200, b"text/event-stream")
    assert isinstance(reply.body, Stream)
    return reply.body


async def test_an_answer_that_comes_in_time_keeps_its_status() -> None:
    rig = Rig()
    rig.answered.set_result(Reply(404, (), b"no such model"))
    reply = await rig.begin(after_s=9.0)
    assert (reply.status, reply.body) == (404, b"no such model")
    assert not rig.clock.pending


async def test_an_error_that_comes_in_time_is_raised() -> None:
    rig = Rig()
    rig.answered.set_exception(ModelLoading("too long"))
    with pytest.raises(ExceptionGroup) as caught:
        await rig.begin(after_s=9.0)
    assert isinstance(caught.value.exceptions[0], ModelLoading)


async def test_comments_fill_the_wait_and_the_events_follow_them() -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    assert await body.read() == b": waiting\n\n"
    rig.clock.advance(10.0)
    assert await body.read() == b": waiting\n\n"
    source = Stream(None)
    source.feed(b"data: 1\n\n")
    await rig.answer(200, EVENTS, source)
    assert await body.read() == b"data: 1\n\n"
    rig.clock.advance(5.0)
    source.feed(b"data: 2\n\n")
    source.end()
    assert await body.read() == b"data: 2\n\n"
    assert await body.read() == b""
    assert body.is_complete
    assert rig.metrics.streaming.active == 0
    assert not rig.clock.pending


async def test_a_whole_answer_follows_them_too() -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    await rig.answer(200, EVENTS, b"data: all\n\n")
    assert await body.read() == b": waiting\n\ndata: all\n\n"
    assert await body.read() == b""
    assert not rig.clock.pending


def _refused() -> Stream:
    stream = Stream(None)
    stream.feed(b"no such model")
    return stream


@pytest.mark.parametrize("make", [lambda: b"no such model", _refused], ids=["whole", "streamed"])
async def test_a_refusal_is_the_last_event(make: Callable[[], Body]) -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    await rig.answer(404, (), make())
    text = await body.read()
    event = json.loads(text.partition(b"event: error\ndata: ")[2])
    assert event["error"]["message"] == "the backend answered 404: no such model"
    assert body.has_last_word
    with pytest.raises(ProxyError, match="404"):
        await body.read()
    assert not rig.clock.pending


@pytest.mark.parametrize(
    ("error", "code"), [(ModelLoading("it takes too long"), "model_loading"), (ZeroDivisionError(), "")]
)
async def test_what_goes_wrong_is_the_last_event(error: Exception, code: str) -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    rig.answered.set_exception(error)
    await turns()
    text = await body.read()
    event = json.loads(text.partition(b"event: error\ndata: ")[2])
    assert event["error"]["code"] == (code or ProxyError.reason)
    with pytest.raises(ProxyError):
        await body.read()


async def test_a_client_that_leaves_before_the_head_ends_the_exchange() -> None:
    rig = Rig()
    with pytest.raises(asyncio.CancelledError):
        await rig.begin(after_s=1.0)
    await turns()
    assert rig.is_cancelled
    assert not rig.clock.pending


async def test_a_client_that_leaves_behind_the_head_ends_the_exchange() -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    body.abandon()
    await turns()
    assert rig.is_cancelled
    assert not rig.clock.pending


async def test_an_answer_for_a_client_that_has_just_left_is_let_go() -> None:
    rig = Rig()
    body = early(await rig.begin(after_s=10.0))
    source = Stream(None)
    rig.answered.set_result(Reply(200, EVENTS, source))
    await asyncio.sleep(0)  # the work is done, and nobody has heard of it yet
    body.abandon()
    await turns()
    source.feed(b"late")
    assert source.waiting == 0, "nobody reads it"


@pytest.mark.parametrize(
    ("target", "wants"),
    [
        (b"/v1/chat/completions", True),
        (b"/v2/models/m/generate_stream?x=1", True),
        (b"/api/chat", False),
        (b"/api/generate", False),
    ],
)
async def test_only_what_is_answered_in_events_begins_early(*, target: bytes, wants: bool) -> None:
    call = Call(
        b"POST", target, ((b"Accept", b"*/*"),), b'{"stream": true}' if b"/v2/" not in target else b"{}"
    )
    assert Rig().streams.may_begin_early(call, "m") == wants


@pytest.mark.parametrize(
    ("body", "accept", "wants"),
    [
        (b'{"stream": true}', b"", True),
        (b'{"stream": false}', b"", False),
        (b"{}", b"text/event-stream", True),
        (b"not json", b"", False),
        (Stream(None), b"", False),
    ],
)
async def test_only_who_asks_for_events_gets_them_early(*, body: Body, accept: bytes, wants: bool) -> None:
    rig = Rig()
    call = Call(b"POST", b"/", ((b"Accept", accept),) if accept else (), body)
    assert rig.streams.may_begin_early(call, "m") == wants
