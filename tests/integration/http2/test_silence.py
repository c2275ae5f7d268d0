"""How long a client may be silent, and where: on a clock that stands still until the test moves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Call, Reply
from proxy.http2 import frames
from proxy.http2.errors import ErrorCode
from proxy.http2.events import GoawayReceived
from tests.integration.http2.conftest import read_all
from tests.support.clock import FakeClock
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from proxy.exchange import Headers
    from proxy.ingress.http2_link import ClientLink
    from tests.integration.http2.conftest import Client, Listen, Stage


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def link_of(stage: Stage) -> ClientLink:
    """The listener's end of the one connection."""
    await until(lambda: bool(stage.listener._links))
    (link,) = stage.listener._links
    return link


async def parting(client: Client) -> GoawayReceived:
    """What the listener says when it ends the connection."""
    event = (await client.read_until(lambda event: isinstance(event, GoawayReceived)))[-1]
    assert isinstance(event, GoawayReceived)
    return event


async def test_an_idle_connection_is_closed(listen: Listen, clock: FakeClock) -> None:
    stage = await listen(timeouts={"keepalive": "10s"}, clock=clock)
    async with stage.connect() as client:
        await client.answer(client.request(b"GET", b"/"))
        clock.advance(10.0)
        goaway = await parting(client)
        assert (goaway.last_stream_id, goaway.code, goaway.debug) == (1, 0, b"idle")
        assert await client.reader.read() == b""


async def test_a_client_that_says_nothing_loses_its_connection(listen: Listen, clock: FakeClock) -> None:
    stage = await listen(timeouts={"header": "10s"}, clock=clock)
    async with stage.connect() as client:
        await link_of(stage)
        clock.advance(10.0)
        events = client.session.receive(await client.reader.read(), now=0.0)
        (goaway,) = [event for event in events if isinstance(event, GoawayReceived)]
        assert (goaway.code, goaway.debug) == (ErrorCode.ENHANCE_YOUR_CALM, b"a head that does not end")


async def test_a_header_block_has_to_end(listen: Listen, clock: FakeClock) -> None:
    stage = await listen(timeouts={"header": "10s"}, clock=clock)
    async with stage.connect() as client:
        await client.answer(client.request(b"GET", b"/"))
        client.writer.write(frames.frame(frames.HEADERS, 0, 3, b"\x82"))
        link = await link_of(stage)
        await until(lambda: link.session.is_mid_head)
        clock.advance(10.0)
        assert (await parting(client)).code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("fields", [(), ((b"content-length", b"9"),)], ids=["streamed", "gathered"])
async def test_a_plain_body_that_stalls_is_refused(listen: Listen, clock: FakeClock, fields: Headers) -> None:
    stage = await listen(timeouts={"body_stall": "10s"}, clock=clock)
    stage.answer = read_all
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", fields, None)
        client.session.send_data(stream_id, b"x")
        client.flush()
        link = await link_of(stage)
        await until(lambda: stream_id in link._calls)
        while link._calls:
            clock.advance(5.0)
            await asyncio.sleep(0)
        status, *_ = await client.answer(stream_id)
    assert status == 408


async def test_a_grpc_stream_may_be_silent(listen: Listen, clock: FakeClock) -> None:
    stage = await listen(timeouts={"body_stall": "10s", "keepalive": "30s"}, clock=clock)
    stage.answer = read_all
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", ((b"content-type", b"application/grpc"),), None)
        await until(lambda: bool(stage.calls))
        clock.advance(50.0)
        client.session.send_data(stream_id, b"x", end=True)
        client.flush()
        status, *_ = await client.answer(stream_id)
    assert status == 200


async def test_a_client_that_gives_no_sign_of_life_loses_its_calls(listen: Listen, clock: FakeClock) -> None:
    """It neither reads nor closes; what it asked for is broken off."""
    stage = await listen(timeouts={"ping": "10s"}, clock=clock)
    cancelled = asyncio.Event()

    async def forever(call: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    stage.answer = forever
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        await until(lambda: bool(stage.calls))
        clock.advance(20.0)
        async with asyncio.timeout(PATIENCE_S):
            await cancelled.wait()


async def test_a_patient_client_answers_the_ping(listen: Listen, clock: FakeClock) -> None:
    stage = await listen(timeouts={"ping": "10s"}, clock=clock)
    go_on = asyncio.Event()

    async def slow(call: Call) -> Reply:
        await go_on.wait()
        return Reply(200, ())

    stage.answer = slow
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/")
        await until(lambda: bool(stage.calls))
        link = await link_of(stage)
        answer = asyncio.create_task(client.answer(stream_id))  # noqa: TID251  the test owns it
        clock.advance(10.0)
        assert link._pulse._is_asked
        clock.advance(1.0)
        await until(lambda: link.heard_at == clock.now())
        clock.advance(30.0)
        go_on.set()
        assert (await answer)[0] == 200
