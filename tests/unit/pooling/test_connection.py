from __future__ import annotations

import pytest

from proxy.errors import BadReply, Reset
from proxy.exchange import Call, Headers, Stream
from tests.support.one_connection import CHUNKED, HEAD, MIB, OwnerOfOne, get, post


# ------------------------------------------------------------------ whole answers
async def test_head_and_small_body_leave_in_one_write(owner: OwnerOfOne) -> None:
    owner.send(post(b"{}"))
    assert bytes(owner.transport.written) == b"POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_large_body_is_not_copied_but_sent_all_the_same(owner: OwnerOfOne) -> None:
    owner.send(post(b"x" * MIB))
    assert owner.transport.written.endswith(b"\r\n\r\n" + b"x" * MIB)


async def test_a_small_answer_is_delivered_whole(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(HEAD + b"Content-Length: 4\r\nKeep-Alive: timeout=5\r\nX: 1\r\n\r\nab")
    assert not waiter.done()
    owner.transport.send(b"cd")
    reply = waiter.result()
    assert (reply.status, reply.reason, reply.headers, reply.body) == (200, b"OK", ((b"X", b"1"),), b"abcd")
    assert owner.said == ["announced 5", "released"]


async def test_a_chunked_answer_in_one_read_is_delivered_whole(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
    assert waiter.result().body == b"abcd"


async def test_trailers_need_a_stream(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(CHUNKED + b"2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n")
    body = waiter.result().body
    assert isinstance(body, Stream)
    assert await body.read() == b"ab"
    assert await body.read() == b""
    assert body.trailers == ((b"X-Sum", b"1"),)
    assert owner.said == ["streaming", "released"]


async def test_a_declared_length_without_body_is_passed_on(owner: OwnerOfOne) -> None:
    call = Call(b"HEAD", b"/", ((b"Host", b"m"),))
    waiter = owner.send(call)
    owner.transport.send(HEAD + b"Content-Length: 4\r\n\r\n")
    assert (waiter.result().body, waiter.result().declared_length) == (b"", 4)
    assert owner.said == ["released"]


async def test_an_answer_that_the_end_delimits(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(b"HTTP/1.0 200 OK\r\n\r\nab")
    body = waiter.result().body
    assert isinstance(body, Stream)
    owner.transport.send(b"cd")
    owner.transport.hang_up()
    assert await body.read() == b"abcd"
    assert await body.read() == b""
    assert owner.said == ["streaming", "lost last"]


# ------------------------------------------------------------------ interim answers
async def test_interim_answers_are_told(owner: OwnerOfOne) -> None:
    told: list[tuple[int, Headers]] = []
    call = get()
    call.on_informational = lambda status, headers: told.append((status, headers))
    waiter = owner.send(call)
    owner.clock.advance(1.9)
    owner.transport.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert told == [(103, ((b"Link", b"x"),))]
    owner.clock.advance(1.9)
    assert not waiter.done(), "the backend is at work"
    owner.transport.send(HEAD + b"Content-Length: 0\r\n\r\n")
    assert waiter.result().status == 200


async def test_interim_answers_that_nobody_wants_are_dropped(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nab")
    assert waiter.result().body == b"ab"


# ------------------------------------------------------------------ streamed answers
async def test_an_answer_of_unknown_length_is_streamed_at_its_head(owner: OwnerOfOne) -> None:
    body = owner.stream()
    assert body.length is None
    owner.chunk(b"one")
    assert await body.read() == b"one"
    owner.chunk(b"two")
    owner.transport.send(b"0\r\n\r\n")
    assert await body.read() == b"two"
    assert await body.read() == b""
    assert owner.said == ["streaming", "released"]


async def test_a_large_answer_is_streamed(owner: OwnerOfOne) -> None:
    body = owner.stream(MIB)
    assert body.length == MIB
    owner.transport.send(b"x" * MIB)
    assert len(await body.read()) == MIB


async def test_a_small_answer_that_trickles_is_streamed(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(HEAD + b"Content-Length: 9\r\n\r\n")
    for _ in range(3):
        assert not waiter.done()
        owner.transport.send(b"x")
    body = waiter.result().body
    assert isinstance(body, Stream)
    assert await body.read() == b"xxx"


async def test_a_slow_consumer_pauses_the_backend(owner: OwnerOfOne) -> None:
    body = owner.stream()
    owner.chunk(b"x" * MIB)
    assert not owner.transport.is_reading()
    await body.read()
    assert owner.transport.is_reading()


async def test_the_connection_reads_again_when_the_answer_ended_while_paused(owner: OwnerOfOne) -> None:
    body = owner.stream(MIB)
    owner.transport.send(b"x" * MIB)
    assert owner.transport.is_reading(), "the next answer must be heard"
    assert owner.said[-1] == "released"
    assert len(await body.read()) == MIB


async def test_an_abandoned_stream_closes_the_connection(owner: OwnerOfOne) -> None:
    owner.stream().abandon()
    assert owner.transport.is_closed
    assert owner.said == ["streaming", "lost abandoned"]


async def test_an_abandoned_stream_that_is_nearly_over_may_end(owner: OwnerOfOne) -> None:
    body = owner.stream(MIB)
    owner.transport.send(b"x" * (MIB - 1000))
    body.abandon()
    assert not owner.transport.is_closed
    assert owner.transport.is_reading()
    owner.transport.send(b"x" * 1000)
    assert owner.said == ["streaming", "released"]


async def test_but_not_for_long(owner: OwnerOfOne) -> None:
    body = owner.stream(MIB)
    owner.transport.send(b"x" * (MIB - 1000))
    body.abandon()
    owner.clock.advance(0.04)
    assert not owner.transport.is_closed
    owner.clock.advance(0.01)
    assert owner.transport.is_closed


async def test_a_stream_that_breaks_off_says_so(owner: OwnerOfOne) -> None:
    body = owner.stream()
    owner.chunk(b"one")
    owner.transport.hang_up()
    assert await body.read() == b"one"
    with pytest.raises(Reset):
        await body.read()
    assert owner.said == ["streaming", "lost error"]


async def test_garbage_within_a_stream_breaks_it_off(owner: OwnerOfOne) -> None:
    body = owner.stream()
    owner.transport.send(b"no chunk\r\n")
    with pytest.raises(BadReply):
        await body.read()


# ------------------------------------------------------------------ ends
async def test_bytes_on_an_idle_connection_end_it(owner: OwnerOfOne) -> None:
    owner.transport.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert owner.said == ["lost unsolicited"]
    assert not owner.connection.is_silent()


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_an_idle_connection_that_ends(owner: OwnerOfOne, how: str) -> None:
    if how == "fin":
        owner.transport.hang_up()
    else:
        owner.transport.lose(ConnectionResetError())
    assert owner.said == ["lost fin"]


async def test_silence_is_asked_of_the_kernel(owner: OwnerOfOne) -> None:
    assert owner.connection.is_silent()
    owner.transport.hang_up_unnoticed()
    assert not owner.connection.is_silent()


async def test_a_forsaken_exchange_closes_the_connection(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    waiter.cancel()
    owner.connection.forsake(waiter)
    assert owner.said == ["lost abandoned"]


async def test_an_exchange_that_is_over_cannot_be_forsaken(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    waiter.cancel()
    owner.transport.send(HEAD + b"Content-Length: 0\r\n\r\n")
    owner.connection.forsake(waiter)
    assert owner.said == ["released"]
    assert owner.connection.is_open


async def test_a_forsaken_stream_that_nobody_got_closes_the_connection(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.transport.send(CHUNKED)
    owner.connection.forsake(waiter)
    assert owner.said == ["streaming", "lost abandoned"]


async def test_closing_twice_is_closing_once(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.connection.close("shutdown")
    owner.connection.close("shutdown")
    owner.connection.connection_lost(None)
    assert isinstance(waiter.exception(), Reset)
    assert owner.said == ["lost shutdown"]
