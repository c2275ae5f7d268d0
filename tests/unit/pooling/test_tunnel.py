"""Connections that were switched to another protocol: bytes in both directions."""

from __future__ import annotations

import pytest

from proxy.errors import BadReply, ClientGone, ReadTimeout, Reset
from proxy.exchange import Stream
from tests.support.one_connection import MIB, SWITCH, OwnerOfOne, get, upgrade
from tests.support.pool_rig import settle


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
