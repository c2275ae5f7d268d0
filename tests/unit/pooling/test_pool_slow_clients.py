"""Streams, and clients that hold a connection up while others wait for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ReaderStalled
from proxy.exchange import Stream
from tests.support.pool_rig import PoolRig, settle

if TYPE_CHECKING:
    from tests.unit.pooling.conftest import Rig


async def test_streams_leave_a_way_through(rig: Rig) -> None:
    pool = rig({"max": 10})
    streams = [await pool.start(accept=b"text/event-stream") for _ in range(9)]
    for transport in pool.asked:
        transport.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    tenth = await pool.start(accept=b"text/event-stream")
    short = await pool.start(b"/short")
    assert not tenth.done()
    pool.dialer.open[-1].answer()
    await settle()
    assert short.result().body == b"/short"
    body = streams[0].result().body
    assert isinstance(body, Stream)
    body.abandon()
    await settle()
    assert pool.state[3] == 0, "a stream has ended: the next may begin"
    for stream in streams[1:]:
        body = stream.result().body
        assert isinstance(body, Stream)
        body.abandon()


async def _unread(pool: PoolRig) -> Stream:
    """A stream that its reader has stopped reading."""
    before = len(pool.asked)
    task = await pool.start()
    pool.asked[before].send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    body = task.result().body
    assert isinstance(body, Stream)
    body.limit(4, 2)
    pool.asked[before].send(b"8\r\n12345678\r\n")
    await settle()
    return body


async def test_readers_that_take_nothing_make_way_slowest_first(rig: Rig) -> None:
    pool = rig({"max": 2, "stall": "500ms"})
    first = await _unread(pool)
    await pool.wait(0.2)
    second = await _unread(pool)
    waiting = await pool.start(b"/waiting")
    assert pool.state[3] == 1
    await pool.wait(0.31)
    assert isinstance(first.error, ReaderStalled)
    assert second.error is None
    pool.asked[-1].answer()
    await settle()
    assert waiting.result().body == b"/waiting"
    second.abandon()


async def test_a_reader_that_stops_while_others_wait_makes_way_in_time(rig: Rig) -> None:
    pool = rig({"max": 1, "stall": "500ms"})
    task = await pool.start()
    pool.asked[0].send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    body = task.result().body
    assert isinstance(body, Stream)
    body.limit(4, 2)
    waiting = await pool.start(b"/waiting")
    await pool.wait(1.0)
    assert body.error is None, "a stream that is read is nobody's fault"
    pool.asked[0].send(b"8\r\n12345678\r\n")
    await pool.wait(0.51)
    assert isinstance(body.error, ReaderStalled)
    pool.asked[-1].answer()
    await settle()
    assert waiting.result().body == b"/waiting"


async def test_slow_readers_are_left_alone_while_there_is_room(rig: Rig) -> None:
    pool = rig({"max": 2, "stall": "500ms"})
    body = await _unread(pool)
    await pool.wait(5.0)
    short = await pool.start(b"/short")
    pool.asked[-1].answer()
    await settle()
    assert short.result().body == b"/short"
    assert body.error is None
    body.abandon()
