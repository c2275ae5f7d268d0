"""An answer that is cut off, reset or spoilt at each of its bytes, over a real socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from proxy.errors import BadReply, ProxyError, Reset
from proxy.exchange import Call, Stream
from tests.support.cluster_rig import ClusterRig

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"
ANSWERS = pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])


class Spoiler:
    """Answers the n-th request with the first n bytes of `answer`, then does `then`."""

    def __init__(self, answer: bytes, then: str) -> None:
        self.answer = answer
        self.then = then
        self.offsets: Iterator[int] = iter(range(len(answer)))

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        offset = next(self.offsets)
        writer.write(self.answer[:offset])
        await writer.drain()
        if self.then == "garbage":
            writer.write(b"\x00\xff\x00" + self.answer[offset:])
        if self.then == "reset":
            peer = writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()


async def outcomes(answer: bytes, then: str) -> list[tuple[bytes, ProxyError | None]]:
    """For each offset: the bytes that a caller got, and the error that ended them."""
    found = []
    async with (
        Spoiler(answer, then) as url,
        ClusterRig(url, health={"every": "0s"}, eject={"consecutive": 0}) as rig,
    ):
        for _ in answer:
            received, error = b"", None
            try:
                reply = await rig.cluster.exchange(Call(b"POST", b"/", ((b"Host", b"m"),), b"{}"))
                if isinstance(reply.body, Stream):
                    while chunk := await reply.body.read():
                        received += chunk
                else:
                    received = reply.body
            except ProxyError as caught:
                error = caught
            found.append((received, error))
        state = rig.cluster.snapshot()[0]
        assert (state["idle"], state["leased"], state["waiting"]) == (0, 0, 0)
    return found


@ANSWERS
@pytest.mark.parametrize("then", ["fin", "reset"])
async def test_a_short_answer_never_looks_whole(answer: bytes, then: str) -> None:
    for received, error in await outcomes(answer, then):
        assert isinstance(error, Reset)
        assert b"hello world".startswith(received)


@ANSWERS
async def test_garbage_never_looks_like_another_answer(answer: bytes) -> None:
    body_at = answer.index(b"\r\n\r\n") + 4
    for offset, (received, error) in enumerate(await outcomes(answer, "garbage")):
        if offset < body_at:
            assert isinstance(error, BadReply), offset
            assert received == b""
        elif answer is PLAIN:  # within a body of known length every byte is data; what is too much is cut off
            assert error is None
            assert received == (answer[:offset] + b"\x00\xff\x00" + answer[offset:])[body_at:][:11]
        else:
            assert error is None or isinstance(error, BadReply)
            assert len(received) <= 11
