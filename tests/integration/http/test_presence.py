"""What the kernel knows about the other end of a connection."""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from typing import TYPE_CHECKING

import pytest

from proxy.ingress.presence import PeerProbe, PeerState
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple[socket.socket, socket.socket]


def tcp_pair(host: str) -> Pair:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        return client, listener.accept()[0]


def unix_pair() -> Pair:
    return socket.socketpair(socket.AF_UNIX)


PAIRS: dict[str, Callable[[], Pair]] = {
    "tcp": lambda: tcp_pair("127.0.0.1"),
    "tcp6": lambda: tcp_pair("::1"),
    "unix": unix_pair,
}
LEAVINGS: dict[str, tuple[Callable[[socket.socket], None], PeerState]] = {
    "stays": (lambda _client: None, "here"),
    "half-closes": (lambda client: client.shutdown(socket.SHUT_WR), "here"),
    "closes": (lambda client: client.close(), "gone"),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("leaving", LEAVINGS)
async def test_who_is_there(pair: str, leaving: str) -> None:
    probe = PeerProbe()
    client, server = PAIRS[pair]()
    leave, expected = LEAVINGS[leaving]
    with client, server:
        leave(client)
        await until(lambda: probe.state(TransportSocket(server)) == expected)
    probe.close()
    probe.close()


async def test_a_half_closed_peer_that_closes_later_is_gone() -> None:
    probe = PeerProbe()
    client, server = PAIRS["tcp"]()
    with server:
        client.shutdown(socket.SHUT_WR)
        await until(lambda: probe.glance(TransportSocket(server)) == "half-closed")
        assert probe.state(TransportSocket(server)) == "here"
        client.close()
        await until(lambda: probe.state(TransportSocket(server)) == "gone")
    probe.close()


async def test_a_reset_is_seen_without_reading() -> None:
    probe = PeerProbe()
    client, server = PAIRS["tcp"]()
    with server:
        assert probe.glance(TransportSocket(server)) == "open"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await until(lambda: probe.glance(TransportSocket(server)) == "broken")
        assert probe.state(TransportSocket(server)) == "gone"
    probe.close()


def test_without_the_kernel_interface_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = PeerProbe()
    client, server = PAIRS["tcp"]()

    def forbidden(*_args: object) -> socket.socket:
        raise PermissionError

    with client, server:
        monkeypatch.setattr("proxy.ingress.presence.socket.socket", forbidden)
        assert probe.state(TransportSocket(server)) == "unknown"
