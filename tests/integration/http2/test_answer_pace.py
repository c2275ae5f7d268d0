"""An answer over HTTP/2 goes at its reader's pace: nothing is held back, little waits, a reader that stops
is given up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ReaderStalled
from proxy.exchange import Call, Ledger, Reply, Stream
from proxy.http2 import frames
from proxy.http2.errors import ErrorCode
from proxy.http2.events import DataReceived, ResponseReceived, StreamReset
from tests.support.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.integration.http2.conftest import Client, Listen, Stage

PIECE = bytes(64 << 10)
WINDOW = 65_535  # what a stream may send unasked


class Source:
    """Feeds `body` until it is told to wait, like a backend's connection."""

    def __init__(self, stall_s: float) -> None:
        self.body = Stream(self, high=256 << 10)
        self.body.stall_s = stall_s
        self.body.account(Ledger(1 << 30))
        self.fed = 0
        self.is_open = True
        self.is_abandoned = False

    async def answer(self, call: Call) -> Reply:
        asyncio.get_running_loop().call_soon(self.pour)
        return Reply(200, (), self.body)

    def pour(self) -> None:
        """One piece in each turn of the loop, as reads bring them."""
        if self.is_open:
            self.fed += len(PIECE)
            self.body.feed(PIECE)
            asyncio.get_running_loop().call_soon(self.pour)

    def pause(self) -> None:
        self.is_open = False

    def resume(self) -> None:
        self.is_open = True
        asyncio.get_running_loop().call_soon(self.pour)

    def abandon(self) -> None:
        self.is_open = False
        self.is_abandoned = True


async def take(client: Client) -> int:
    """One read of the client's; how much of the answer it brought. Opens no window."""
    async with asyncio.timeout(PATIENCE_S):
        data = await client.reader.read(1 << 20)
    client.events += (events := client.session.receive(data, now=0.0))
    client.flush()
    return sum(len(event.data) for event in events if isinstance(event, DataReceived))


async def test_each_piece_leaves_before_the_next_is_made(stage: Stage) -> None:
    body = Stream(None)

    async def answer(call: Call) -> Reply:
        return Reply(200, (), body)

    stage.answer = answer
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        await client.read_until(lambda event: isinstance(event, ResponseReceived))
        for number in range(20):
            body.feed(b"data: %d\n\n" % number)
            (*_, event) = await client.read_until(lambda event: isinstance(event, DataReceived))
            assert isinstance(event, DataReceived)
            assert event.data == b"data: %d\n\n" % number
        body.end()
        (*_, event) = await client.read_until(lambda event: getattr(event, "is_ended", False))
        assert isinstance(event, DataReceived)
    assert body.is_complete


async def test_a_reader_that_opens_no_window_stops_the_producer_and_is_given_up(stage: Stage) -> None:
    source = Source(stall_s=0.2)
    stage.answer = source.answer
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        taken = 0
        while taken < WINDOW:
            taken += await take(client)
        await until(lambda: not source.is_open)
        # The watermark, the piece that crossed it, and one in the session's queue.
        assert source.fed <= WINDOW + (256 << 10) + 2 * len(PIECE)
        assert source.body.waiting >= source.fed - taken
        (*_, reset) = await client.read_until(lambda event: isinstance(event, StreamReset))
        assert isinstance(reset, StreamReset)
        assert (reset.code, source.is_abandoned) == (ErrorCode.CANCEL, True)
        assert isinstance(source.body.left_because, ReaderStalled)
        assert source.body.waiting == 0
        stage.answer = stage._empty
        assert (await client.answer(client.request(b"GET", b"/")))[0] == 200, "the connection lives on"


async def test_the_listeners_own_patience_holds_too(listen: Listen) -> None:
    stage = await listen(timeouts={"write_stall": "200ms"})
    source = Source(stall_s=600.0)
    stage.answer = source.answer
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        while not source.is_abandoned:
            await take(client)
        assert isinstance(source.body.left_because, ReaderStalled)


async def test_a_full_socket_stops_the_producer_and_ends_it_in_time(stage: Stage) -> None:
    source = Source(stall_s=0.3)
    stage.answer = source.answer
    async with stage.connect() as client:
        for frame in _wide_open(client):
            client.writer.write(frame)
        client.request(b"GET", b"/")  # and nothing is read any more
        await until(lambda: source.is_abandoned)
        assert isinstance(source.body.left_because, ReaderStalled)


@pytest.mark.slow
async def test_a_slow_reader_that_moves_is_not_given_up(stage: Stage) -> None:
    source = Source(stall_s=0.4)
    stage.answer = source.answer
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/")
        for _ in range(25):  # three times as long as a stalled reader would get
            await asyncio.sleep(0.05)
            client.session.credit(stream_id, await take(client))
            client.flush()
        assert not source.is_abandoned


def _wide_open(client: Client) -> list[bytes]:
    """A peer that lets everything through: only its socket can hold an answer back."""
    return [
        client.session.data_to_send(),
        frames.settings_frame(((frames.SETTING_INITIAL_WINDOW_SIZE, 2**31 - 1),)),
        frames.window_update_frame(0, 2**31 - 1 - WINDOW),
    ]
