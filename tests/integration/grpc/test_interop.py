"""gRPC calls of every kind, by grpcio on both sides: through the proxy as direct."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio

from tests.integration.grpc.conftest import Relay
from tests.integration.grpc.service import SPECIAL
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.exchange import Begun, Call, Reply, Taker
    from tests.integration.grpc.conftest import Stage

METADATA = (("x-text", "value"), ("x-twice", "1"), ("x-twice", "2"), ("x-data-bin", bytes(range(256))))


async def outcome(call: object) -> tuple[object, ...]:
    """What a failed call tells its caller."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]  # grpcio has no types
    error = caught.value
    return error.code(), error.details(), tuple(error.trailing_metadata())


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 1 << 20])
async def test_unary(stage: Stage, size: int) -> None:
    body = bytes(size)
    assert await stage.proxied.unary_unary("/t.T/Unary")(body) == body


@pytest.mark.slow
async def test_unary_of_64_mib(stage: Stage) -> None:
    body = bytes(64 << 20)
    assert await stage.proxied.unary_unary("/t.T/Unary")(body) == body


async def test_metadata_both_ways(stage: Stage) -> None:
    own = {name for name, _ in METADATA}
    seen = []
    for channel in (stage.direct, stage.proxied):
        call = channel.unary_unary("/t.T/Unary")(b"", metadata=METADATA)
        await call
        sent = [pair for pair in stage.service.metadata if pair[0] in own]
        seen.append((sent, tuple(await call.initial_metadata()), tuple(await call.trailing_metadata())))
    assert seen[0] == seen[1]
    assert sorted(seen[1][0]) == sorted(METADATA)


async def test_server_streaming(stage: Stage) -> None:
    call = stage.proxied.unary_stream("/t.T/Count")(b"100")
    assert [message async for message in call] == [b"%d" % number for number in range(100)]


async def test_client_streaming(stage: Stage) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1000)

    assert await stage.proxied.stream_unary("/t.T/Sum")(requests()) == b"100000"


async def test_ping_pong(stage: Stage) -> None:
    call = stage.proxied.stream_stream("/t.T/Echo")()
    for number in range(20):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_half_close_without_a_message(stage: Stage) -> None:
    call = stage.proxied.stream_stream("/t.T/Echo")()
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("code", [1, 2, 3, 5, 7, 8, 9, 12, 13, 14, 16])
async def test_status_as_direct(stage: Stage, code: int) -> None:
    direct, proxied = [
        await outcome(channel.unary_unary("/t.T/Fail")(b"%d" % code))
        for channel in (stage.direct, stage.proxied)
    ]
    assert direct == proxied
    assert ("grpc-status-details-bin", b"\x08\x09") in proxied[2]  # type: ignore[operator]  # a tuple of pairs


async def test_failure_after_the_first_message(stage: Stage) -> None:
    call = stage.proxied.unary_stream("/t.T/FailLate")(b"")
    assert await call.read() == b"first"
    with pytest.raises(aio.AioRpcError):
        await call.read()
    assert (await call.code(), await call.details()) == (grpc.StatusCode.DATA_LOSS, "lost the rest")


async def test_unimplemented_as_direct(stage: Stage) -> None:
    direct, proxied = [
        await outcome(channel.unary_unary("/t.T/Missing")(b"")) for channel in (stage.direct, stage.proxied)
    ]
    assert direct == proxied
    assert proxied[0] == grpc.StatusCode.UNIMPLEMENTED


async def test_an_unknown_service_as_direct(stage: Stage) -> None:
    direct, proxied = [
        await outcome(channel.unary_unary("/no.Such/Service")(b""))
        for channel in (stage.direct, stage.proxied)
    ]
    assert direct == proxied
    assert proxied[0] == grpc.StatusCode.UNIMPLEMENTED


async def test_a_special_status_message_as_direct(stage: Stage) -> None:
    direct, proxied = [
        await outcome(channel.unary_unary("/t.T/Special")(b"")) for channel in (stage.direct, stage.proxied)
    ]
    assert direct == proxied
    assert proxied[:2] == (grpc.StatusCode.UNKNOWN, SPECIAL)


@pytest.mark.parametrize("compression", list(grpc.Compression))
async def test_compressed_messages_both_ways(stage: Stage, compression: grpc.Compression) -> None:
    body = b"squeeze me " * 20_000
    call = stage.proxied.unary_stream("/t.T/Squeezed")(body, compression=compression)
    assert [message async for message in call] == [body, body]


async def test_cancel_after_begin(stage: Stage) -> None:
    call = stage.proxied.stream_unary("/t.T/Sum")()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() == grpc.StatusCode.CANCELLED
    assert await stage.proxied.unary_unary("/t.T/Unary")(b"next") == b"next"


async def test_timeout_on_a_sleeping_server(stage: Stage) -> None:
    await stage.proxied.unary_unary("/t.T/Unary")(b"")  # connecting is not what the deadline is for
    for timeout_s in (0.5, 5.0, 50.0):  # a busy machine may not get there in half a second
        code, *_ = await outcome(stage.proxied.unary_unary("/t.T/Sleep")(b"", timeout=timeout_s))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        if not stage.service.started.locked():
            break
    async with asyncio.timeout(PATIENCE_S):
        await stage.service.cancelled.acquire()


async def test_what_is_left_of_the_deadline_goes_upstream(stage: Stage) -> None:
    await stage.proxied.unary_unary("/t.T/Unary")(b"", timeout=50)
    await stage.proxied.unary_unary("/t.T/Unary")(b"")
    limited, unlimited = stage.service.time_left
    assert limited is not None
    assert 40 < limited < 60  # grpcio itself rounds up by some per cent
    assert unlimited is None


async def test_cancellation_goes_upstream(stage: Stage) -> None:
    call = stage.proxied.unary_unary("/t.T/Sleep")(b"")
    async with asyncio.timeout(PATIENCE_S):
        await stage.service.started.acquire()
        call.cancel()
        await stage.service.cancelled.acquire()
    assert stage.pool.snapshot()["calls"] == 0


async def test_cancel_after_the_first_message(stage: Stage) -> None:
    call = stage.proxied.stream_stream("/t.T/Echo")()
    await call.write(b"1")
    assert await call.read() == b"1"
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    assert await stage.proxied.unary_unary("/t.T/Unary")(b"next") == b"next"


async def test_many_at_once(stage: Stage) -> None:
    method = stage.proxied.unary_unary("/t.T/Unary")
    bodies = [b"%d" % number * 50 for number in range(300)]
    assert await asyncio.gather(*(method(body) for body in bodies)) == bodies
    assert stage.pool.snapshot()["calls"] == 0


async def test_a_slow_reader_does_not_hold_up_others(stage: Stage) -> None:
    slow = stage.proxied.stream_stream("/t.T/Echo")()
    for _ in range(30):
        await slow.write(bytes(60_000))  # nobody reads the echoes, so the windows fill
    assert await stage.proxied.unary_unary("/t.T/Unary")(b"quick") == b"quick"
    await slow.done_writing()
    assert sum([len(message) async for message in slow]) == 1_800_000


async def test_large_streams_side_by_side_arrive_as_they_were_sent(stage: Stage) -> None:
    def messages(stream: int) -> list[bytes]:
        return [bytes((stream, number)) * (70_000 + 9_973 * stream + number) for number in range(12)]

    async def echoed(stream: int) -> list[bytes]:
        call = stage.proxied.stream_stream("/t.T/Echo")(_each(messages(stream)))
        if stream == 0:  # read when the others are done: what came for it had to wait
            await others
        return [message async for message in call]

    others = asyncio.gather(*map(echoed, range(1, 6)))
    first = await echoed(0)
    assert [first, *await others] == [messages(stream) for stream in range(6)]


async def _each(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


class Spoiler:
    """Gives answers that cannot be sent: the value of a field is a number."""

    def __init__(self, taker: Taker) -> None:
        self.fail, self.go_on, self._take = taker.fail, taker.go_on, taker.take

    def take(self, reply: Reply) -> None:
        number: Any = 7
        reply.headers = ((b"x-number", number),)
        self._take(reply)


class SpoilingRelay(Relay):
    def begin(self, call: Call, taker: Taker) -> Begun | None:
        return super().begin(call, Spoiler(taker))


async def test_a_fault_in_sending_one_answer_costs_no_other_call(stage: Stage) -> None:
    unary = stage.proxied.unary_unary("/t.T/Unary")
    assert await unary(b"before") == b"before"
    channels, sound = dict(stage.pool.connections), stage.listener.pipeline
    stage.listener.pipeline = SpoilingRelay(stage.pool)
    # An answer of trailers only comes whole, and is passed on within the channel's own turn.
    code, *_ = await outcome(stage.proxied.unary_unary("/t.T/Nothing")(b"lost"))
    stage.listener.pipeline = sound
    assert code is grpc.StatusCode.INTERNAL
    assert await unary(b"after") == b"after"
    assert dict(stage.pool.connections) == channels
