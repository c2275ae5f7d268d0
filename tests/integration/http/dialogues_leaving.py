"""How a client leaves: by half-closing and waiting, or for good, at each stage of its request."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tests.integration.http.dialogues import CHUNKED, DIALOGUES, GET, Dialogue, Scene, backend, dialogue, fill
from tests.support.wire import response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.raw_client import RawClient


@dialogue(
    "38",
    "a half-closed client waits for a slow answer",
    sent="GET, FIN",
    expected="client: 200 {late}, closed",
)
async def half_close_and_wait() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        client.half_close()
        peer = await scene.peer()
        await peer.head()
        await asyncio.sleep(0.1)  # longer than the proxy takes to find out whether the client is there
        peer.send(response(b"late"))
        answer = await client.receive(skip_interim=False)
        assert await client.read_to_end() == b""
        return f"client: {answer.status} {{{answer.body.decode()}}}, closed"


@dialogue(
    "38",
    "a half-closed client gets a stream to its end",
    sent="GET, FIN",
    expected="client: 200 {onetwo}, closed",
)
async def half_close_and_stream() -> str:
    async with backend() as scene, scene.client() as client:
        await client.send(GET)
        client.half_close()
        peer = await scene.peer()
        await peer.head()
        peer.send(CHUNKED + b"3\r\none\r\n")
        await asyncio.sleep(0.1)
        peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        answer = await client.receive(skip_interim=False)
        assert await client.read_to_end() == b""
        return f"client: {answer.status} {{{answer.body.decode()}}}, closed"


async def _leave(scene: Scene, client: RawClient, *, by_reset: bool) -> None:
    if by_reset:
        client.reset()
    else:
        await client.__aexit__(None, None, None)


def _departures() -> None:
    """The client leaves at each stage, by FIN and by RST."""

    def enter(
        stage_name: str, sent: str, play: Callable[[bool], Awaitable[str]], seen: str = "backend: gone"
    ) -> None:
        for by_reset in (False, True):
            how = "RST" if by_reset else "FIN"
            DIALOGUES.append(
                Dialogue(
                    "41",
                    f"the client leaves by {how} {stage_name}",
                    f"{sent}, {how}",
                    f"{seen} · everything freed",
                    partial(play, by_reset),
                )
            )

    async def before_the_answer(by_reset: bool) -> str:
        async with backend() as scene:
            client = await scene.client().__aenter__()
            await client.send(GET)
            peer = await scene.peer()
            await peer.head()
            await _leave(scene, client, by_reset=by_reset)
            await peer.gone()
            return f"backend: gone · {await scene.at_rest()}"

    async def while_sending(by_reset: bool) -> str:
        async with backend() as scene:
            client = await scene.client().__aenter__()
            await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" + b"x" * 1000)
            peer = await scene.peer()
            await peer.head()
            await _leave(scene, client, by_reset=by_reset)
            await peer.gone()
            return f"backend: gone · {await scene.at_rest()}"

    async def while_held_up(by_reset: bool) -> str:
        async with backend() as scene:
            client = await scene.client().__aenter__()
            await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n")
            peer = await scene.peer()
            await peer.head()
            await fill(client)
            if by_reset:
                client.reset()
            else:
                client.vanish()
            return f"the backend reads nothing · {await scene.at_rest()}"

    async def in_the_answer(by_reset: bool) -> str:
        async with backend() as scene:
            client = await scene.client().__aenter__()
            await client.send(GET)
            peer = await scene.peer()
            await peer.head()
            peer.send(CHUNKED + b"3\r\none\r\n")
            await client.read_some()
            await _leave(scene, client, by_reset=by_reset)
            await peer.gone()
            return f"backend: gone · {await scene.at_rest()}"

    async def with_requests_behind(by_reset: bool) -> str:
        async with backend() as scene:
            client = await scene.client().__aenter__()
            await client.send(GET * 50)
            peer = await scene.peer()
            await peer.head()
            await _leave(scene, client, by_reset=by_reset)
            await peer.gone()
            return f"backend: gone · {await scene.at_rest()}"

    enter("before the answer", "GET", before_the_answer)
    enter("in its upload", "1,000 of 9,000 bytes", while_sending)
    enter(
        "in an upload that the backend does not read",
        "more than every buffer holds",
        while_held_up,
        "the backend reads nothing",
    )
    enter("in the answer", "GET", in_the_answer)
    enter("with more requests behind", "50 pipelined GETs", with_requests_behind)


_departures()
