from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest

from proxy.errors import (
    BadReply,
    ClientGone,
    DeadlineExceeded,
    ReaderStalled,
    ReadTimeout,
    RequestTimeout,
    Reset,
)
from proxy.exchange import Call, Headers, Reply, Stream
from proxy.pooling.alarm import Alarm
from proxy.pooling.connection import Connection
from proxy.pooling.policy import TimeoutPolicy
from proxy.timing import NEVER, Deadline
from tests.support.clock import FakeClock
from tests.support.fake_backend import FakeTransport
from tests.support.pool_rig import settle

if TYPE_CHECKING:
    import asyncio

    from proxy.pooling.reply_reader import HeadTable

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
MIB = 1 << 20


class OwnerOfOne:
    """Keeps one connection and writes down what it says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.alarm = Alarm(self.clock, self._expire)
        self.heads: HeadTable = {}
        self.timeouts = TimeoutPolicy.model_validate({"first_byte": "2s", "idle": "5s"})
        self.authority = b"model"
        self.said: list[str] = []
        self.connection = Connection(self)
        self.transport = FakeTransport(cast("asyncio.Protocol", self.connection))
        self.connection.connection_made(self.transport)

    def _expire(self, now: float) -> float:
        if self.connection.overdue_at() <= now:
            self.connection.expire(now)
        return self.connection.overdue_at()

    def announced(self, timeout_s: float) -> None:
        self.said.append(f"announced {timeout_s:g}")

    def streaming(self, connection: Connection) -> None:
        self.said.append("streaming")

    def held_up(self, connection: Connection) -> None:
        self.held_up_at = connection.held_up_since

    def released(self, connection: Connection) -> None:
        self.said.append("released")

    def lost(self, connection: Connection) -> None:
        self.said.append(f"lost {connection.ended}")

    # ------------------------------------------------------------- shorthand
    def send(self, call: Call) -> asyncio.Future[Reply]:
        return self.connection.send(call, self.clock.now())

    def stream(self, length: int | None = None) -> Stream:
        """Ask, and get a streamed answer."""
        waiter = self.send(get())
        framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        self.transport.send(HEAD + framing + b"\r\n\r\n")
        body = waiter.result().body
        assert isinstance(body, Stream)
        return body

    def chunk(self, data: bytes) -> None:
        self.transport.send(b"%x\r\n%b\r\n" % (len(data), data))


@pytest.fixture
async def owner() -> OwnerOfOne:
    return OwnerOfOne()


def get(deadline: Deadline = NEVER) -> Call:
    return Call(b"GET", b"/", ((b"Host", b"m"),), deadline=deadline)


def post(body: bytes | Stream) -> Call:
    return Call(b"POST", b"/", ((b"Host", b"m"),), body)


def upgrade(body: Stream) -> Call:
    call = Call(b"GET", b"/ws", ((b"Host", b"m"),), body)
    call.upgrade = b"echo"
    return call


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


# ------------------------------------------------------------------ uploads
async def test_a_body_of_unknown_length_is_sent_in_chunks(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    await settle()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    body.end(((b"X-Sum", b"1"),))
    await settle()
    assert owner.transport.written.endswith(
        b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    owner.transport.send(HEAD + b"Content-Length: 0\r\n\r\n")
    assert waiter.result().status == 200
    assert owner.said == ["released"]


async def test_a_body_of_known_length_is_sent_as_it_is(owner: OwnerOfOne) -> None:
    body = Stream(None, 6)
    owner.send(post(body))
    body.feed(b"onetwo")
    body.end()
    await settle()
    assert owner.transport.written.endswith(b"Content-Length: 6\r\n\r\nonetwo")


async def test_a_slow_backend_pauses_the_upload(owner: OwnerOfOne) -> None:
    body = Stream(None)
    owner.send(post(body))
    owner.connection.pause_writing()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    await settle()
    assert b"two" not in owner.transport.written
    owner.connection.resume_writing()
    await settle()
    assert b"two" in owner.transport.written


async def test_writing_may_pause_without_an_upload(owner: OwnerOfOne) -> None:
    owner.send(post(b"{}"))
    owner.connection.pause_writing()
    owner.connection.resume_writing()
    assert owner.connection.is_open


async def test_an_upload_that_breaks_off_fails_the_call(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    body.feed(b"one")
    body.fail(ClientGone())
    await settle()
    with pytest.raises(ClientGone):
        waiter.result()
    assert owner.transport.is_closed, "a chunked body must not seem to end"
    assert owner.said == ["lost abandoned"]


async def test_an_early_answer_ends_the_upload(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    body.feed(b"one")
    await settle()
    owner.transport.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    await settle()
    assert waiter.result().status == 413
    assert owner.said == ["lost last"]
    body.feed(b"two")
    assert body.buffered == 0, "nobody reads it any more"


async def test_answer_and_upload_may_overlap(owner: OwnerOfOne) -> None:
    sent = Stream(None)
    waiter = owner.send(post(sent))
    owner.transport.send(CHUNKED)
    answer = waiter.result().body
    assert isinstance(answer, Stream)
    for word in (b"one", b"two"):
        sent.feed(word)
        await settle()
        assert owner.transport.written.endswith(b"\r\n" + word + b"\r\n")
        owner.chunk(word)
        assert await answer.read() == word
    sent.end()
    await settle()
    owner.transport.send(b"0\r\n\r\n")
    assert await answer.read() == b""
    assert owner.said == ["streaming", "released"]


async def test_a_connection_that_breaks_leaves_an_untouched_body_to_the_caller(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    owner.transport.hang_up()
    await settle()
    with pytest.raises(Reset):
        waiter.result()
    body.feed(b"one")
    assert body.read_nowait() == b"one"


# ------------------------------------------------------------------ time
async def test_silence_before_the_answer(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    owner.clock.advance(2.0)
    with pytest.raises(ReadTimeout):
        waiter.result()
    assert owner.said == ["lost timeout"]


async def test_bytes_of_a_head_do_not_extend_the_patience(owner: OwnerOfOne) -> None:
    waiter = owner.send(get())
    for byte in (b"H", b"T", b"T"):
        owner.clock.advance(0.6)
        owner.transport.send(byte)
    owner.clock.advance(0.2)
    assert isinstance(waiter.exception(), ReadTimeout)


async def test_silence_within_an_answer(owner: OwnerOfOne) -> None:
    body = owner.stream()
    for _ in range(3):
        owner.clock.advance(4.0)
        owner.chunk(b"x")
    assert await body.read() == b"xxx"
    owner.clock.advance(5.0)
    with pytest.raises(ReadTimeout):
        await body.read()


async def test_the_backend_is_not_blamed_for_a_slow_consumer(owner: OwnerOfOne) -> None:
    body = owner.stream()
    owner.chunk(b"x" * MIB)
    owner.clock.advance(60.0)
    assert len(await body.read()) == MIB
    owner.clock.advance(4.9)
    assert owner.connection.is_open
    owner.clock.advance(0.1)
    assert not owner.connection.is_open


async def test_the_backend_is_not_blamed_for_a_slow_client(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    await settle()
    owner.clock.advance(60.0)
    assert not waiter.done()
    body.end()
    await settle()
    owner.clock.advance(2.0)
    assert isinstance(waiter.exception(), ReadTimeout)


async def test_a_backend_that_does_not_read_is(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    owner.connection.pause_writing()
    body.feed(b"x")
    await settle()
    owner.clock.advance(2.0)
    await settle()
    assert isinstance(waiter.exception(), ReadTimeout)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_deadline_counts_always(owner: OwnerOfOne, streamed: bool) -> None:
    waiter = owner.send(get(Deadline(owner.clock.now() + 1.0)))
    if streamed:
        owner.transport.send(CHUNKED)
    owner.clock.advance(1.0)
    if streamed:
        body = waiter.result().body
        assert isinstance(body, Stream)
        assert isinstance(body.error, DeadlineExceeded)
    else:
        assert isinstance(waiter.exception(), DeadlineExceeded)


async def test_an_idle_connection_is_never_overdue(owner: OwnerOfOne) -> None:
    assert owner.connection.overdue_at() == math.inf


# ------------------------------------------------------------------ tunnels
async def test_a_switch_makes_a_tunnel(owner: OwnerOfOne) -> None:
    sent = Stream(None)
    waiter = owner.send(upgrade(sent))
    owner.transport.send(SWITCH + b"hello")
    reply = waiter.result()
    assert (reply.status, reply.headers) == (101, ((b"Upgrade", b"echo"),))
    assert isinstance(reply.body, Stream)
    assert await reply.body.read() == b"hello"
    sent.feed(b"raw")
    await settle()
    assert owner.transport.written.endswith(b"Upgrade: echo\r\n\r\nraw")
    owner.transport.send(b"more")
    assert await reply.body.read() == b"more"
    owner.transport.hang_up()
    assert await reply.body.read() == b""
    assert owner.said == ["streaming"], "the client may still talk"
    sent.end()
    await settle()
    assert owner.said == ["streaming", "lost last"]
    assert owner.transport.is_closed


async def tunnel(owner: OwnerOfOne) -> tuple[Stream, Stream]:
    sent = Stream(None)
    waiter = owner.send(upgrade(sent))
    owner.transport.send(SWITCH)
    received = waiter.result().body
    assert isinstance(received, Stream)
    await settle()
    return sent, received


async def test_the_client_may_close_its_half_first(owner: OwnerOfOne) -> None:
    sent, received = await tunnel(owner)
    sent.end()
    await settle()
    assert owner.transport.is_half_closed
    owner.transport.send(b"still")
    assert await received.read() == b"still"
    owner.transport.hang_up()
    assert await received.read() == b""
    assert owner.said == ["streaming", "lost last"]


async def test_without_half_close_the_tunnel_ends(owner: OwnerOfOne) -> None:
    owner.transport.can_half_close = False
    sent, _ = await tunnel(owner)
    sent.end()
    await settle()
    assert owner.transport.is_closed


async def test_a_tunnel_that_breaks_ends_both_halves(owner: OwnerOfOne) -> None:
    sent, received = await tunnel(owner)
    owner.transport.lose(ConnectionResetError("reset"))
    with pytest.raises(Reset):
        await received.read()
    await settle()
    assert owner.said == ["streaming", "lost last"]
    sent.feed(b"late")


async def test_a_client_that_breaks_off_ends_the_tunnel(owner: OwnerOfOne) -> None:
    sent, received = await tunnel(owner)
    sent.fail(ClientGone())
    await settle()
    assert owner.transport.is_closed
    assert isinstance(received.error, ClientGone)


async def test_a_client_that_does_not_listen_ends_the_tunnel(owner: OwnerOfOne) -> None:
    _, received = await tunnel(owner)
    received.abandon()
    assert owner.transport.is_closed


async def test_a_tunnel_flows_at_the_pace_of_the_slower(owner: OwnerOfOne) -> None:
    sent, received = await tunnel(owner)
    owner.transport.send(b"x" * MIB)
    assert not owner.transport.is_reading()
    await received.read()
    assert owner.transport.is_reading()
    owner.transport.protocol.pause_writing()
    sent.feed(b"one")
    await settle()
    sent.feed(b"two")
    await settle()
    assert not owner.transport.written.endswith(b"two")
    owner.transport.protocol.resume_writing()
    await settle()
    assert owner.transport.written.endswith(b"two")
    sent.end()
    await settle()
    owner.transport.protocol.pause_writing()
    owner.transport.protocol.resume_writing()


async def test_a_tunnel_in_which_only_the_client_talks_lives(owner: OwnerOfOne) -> None:
    sent, _ = await tunnel(owner)
    for _ in range(5):
        sent.feed(b"x")
        await settle()
        owner.clock.advance(4.0)
    assert owner.connection.is_open
    owner.clock.advance(10.0)
    assert not owner.connection.is_open


async def test_a_silent_tunnel_ends(owner: OwnerOfOne) -> None:
    _, received = await tunnel(owner)
    owner.clock.advance(4.0)
    owner.transport.send(b"x")
    owner.clock.advance(4.9)
    assert owner.connection.is_open
    owner.clock.advance(0.1)
    assert isinstance(received.error, ReadTimeout)


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_switch_that_nobody_asked_for_is_refused(owner: OwnerOfOne, wanted: bool) -> None:
    call = get()
    call.upgrade = b"echo" if wanted else b""  # without a stream there is nothing to tunnel
    waiter = owner.send(call)
    owner.transport.send(SWITCH)
    assert isinstance(waiter.exception(), BadReply)


async def test_an_upgrade_that_is_declined_is_an_answer(owner: OwnerOfOne) -> None:
    waiter = owner.send(upgrade(Stream(None)))
    owner.transport.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
    assert (waiter.result().status, waiter.result().body) == (426, b"no")
    assert owner.said == ["released"]


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


async def test_a_client_that_sends_nothing_of_its_request_may_have_to_make_way() -> None:
    owner = OwnerOfOne()
    body = Stream(None, 9)
    waiter = owner.send(Call(b"POST", b"/", (), body))
    owner.clock.advance(1.0)
    assert owner.connection.held_up_since == owner.clock.now() - 1.0
    body.feed(b"hello")
    assert owner.connection.held_up_since == owner.clock.now()
    owner.connection.make_way()
    assert isinstance(waiter.exception(), RequestTimeout)
    assert owner.said == ["lost abandoned"]


async def test_a_client_that_takes_nothing_of_its_answer_may_have_to_make_way() -> None:
    owner = OwnerOfOne()
    assert owner.connection.held_up_since == math.inf
    body = owner.stream()
    body.limit(4, 2)
    owner.chunk(b"12345678")
    assert owner.held_up_at == owner.connection.held_up_since == owner.clock.now()
    owner.connection.make_way()
    assert isinstance(body.error, ReaderStalled)
    assert body.buffered == 0, "what was not taken is dropped"
