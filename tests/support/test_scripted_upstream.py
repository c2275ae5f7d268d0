"""The test tools themselves: a dialogue that goes as written, and one that does not."""

import asyncio

import pytest

from tests.support.raw_client import RawClient, request
from tests.support.scripted_upstream import (
    Close,
    Expect,
    ExpectEof,
    HalfClose,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Until,
    response,
)
from tests.support.waiting import until


async def test_each_connection_follows_its_dialogue() -> None:
    go = asyncio.Event()
    async with ScriptedUpstream(
        [Expect(b"/one"), Send(response(b"1", b"X-A: b")), ExpectEof()],
        [Expect(b"/two"), Until(go), Send(response(b"2")), Close()],
    ) as upstream:
        async with RawClient(upstream.url) as client:
            answer = await client.ask(b"GET", b"/one")
            assert (answer.status, answer.body, answer.header(b"x-a")) == (200, b"1", b"b")
        for _ in range(2):
            async with RawClient(upstream.url) as client:
                await client.send(request(b"POST", b"/two", b"body"))
                go.set()
                assert await client.read_to_end() == response(b"2")
        await until(lambda: upstream.finished == 3)
    assert [message.target for message in upstream.requests] == [b"/one", b"/two", b"/two"]
    assert upstream.requests[1].body == b"body"


async def test_chunks_and_trailers_are_read_by_their_framing() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        ScriptedUpstream(
            [Expect(), Send(head + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nT: 1\r\n\r\n"), Stall()]
        ) as upstream,
        RawClient(upstream.url) as client,
    ):
        answer = await client.ask()
    assert (answer.body, answer.trailers) == (b"abcd", [(b"T", b"1")])


async def test_a_reset_and_an_end_without_a_length() -> None:
    async with ScriptedUpstream(
        [Expect(), Send(b"HTTP/1.1 200 OK\r\n\r\nall"), HalfClose(), ExpectEof()],
        [Expect(), Reset()],
    ) as upstream:
        async with RawClient(upstream.url) as client:
            assert (await client.ask()).body == b"all"
        async with RawClient(upstream.url) as client:
            with pytest.raises(ConnectionResetError):
                await client.ask()


async def test_a_request_against_the_script_fails_the_test() -> None:
    async def go_against_the_script() -> None:
        async with ScriptedUpstream([Expect(b"/expected")]) as upstream, RawClient(upstream.url) as client:
            await client.send(request(b"GET", b"/other"))
            await client.read_to_end()

    with pytest.raises(ExceptionGroup, match="went otherwise"):
        await go_against_the_script()
