"""What a client may not do for ever: say nothing, or send messages of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Call, Reply, Stream
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.integration.http2.conftest import Listen


async def test_a_message_over_the_limit_is_refused(listen: Listen) -> None:
    stage = await listen(limits={"message": "1KiB"})

    async def read(call: Call) -> Reply:
        while isinstance(call.body, Stream) and await call.body.read():
            pass
        return Reply(200, ((b"grpc-status", b"0"),))

    stage.answer = read
    grpc = (b"content-type", b"application/grpc")
    async with stage.connect() as client:
        within = bytes(3) + b"\x04\x00" + bytes(1024)
        fields = (await client.answer(client.request(b"POST", b"/t.T/M", (grpc,), within * 3)))[1]
        assert fields[b"grpc-status"] == b"0"
        over = within + bytes(3) + b"\x04\x01"
        fields = (await client.answer(client.request(b"POST", b"/t.T/M", (grpc,), over)))[1]
        assert (fields[b"grpc-status"], fields[b"grpc-message"]) == (b"8", b"a message over 1024 bytes")


async def test_a_refused_head_with_too_large_a_body_leaves_nothing_behind(listen: Listen) -> None:
    stage = await listen(limits={"body": "1KiB", "headers": 1})
    async with stage.connect() as client:
        await until(lambda: bool(stage.listener._links))
        (link,) = stage.listener._links
        fields = ((b"a", b"1"), (b"b", b"2"), (b"c", b"3"))
        status = (await client.answer(client.request(b"POST", b"/", fields, bytes(2048))))[0]
        assert status == 431
        await until(lambda: not link._calls)
