"""How long a connection waits for whom, and who is blamed."""

from __future__ import annotations

import math

import pytest

from proxy.errors import DeadlineExceeded, ReaderStalled, ReadTimeout, RequestTimeout
from proxy.exchange import Call, Stream
from proxy.timing import Deadline
from tests.support.one_connection import CHUNKED, MIB, OwnerOfOne, get, post
from tests.support.pool_rig import settle


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
