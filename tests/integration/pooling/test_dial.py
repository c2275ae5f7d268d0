from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import pytest

from proxy.demo.processes import free_port
from proxy.errors import ConnectFailed, ConnectTimeout
from proxy.pooling.dial import Dialer
from proxy.pooling.endpoint import parse_endpoint
from tests.support.clock import FakeClock
from tests.support.raw_backend import RawBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = "127.0.0.2"  # this machine too, but nobody listens there


class Names:
    """A name service; `table` may change, `asked` counts."""

    def __init__(self, **table: list[str]) -> None:
        self.table = table
        self.asked = 0
        self.is_silent = False

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[object]:
        self.asked += 1
        if self.is_silent:
            await asyncio.get_running_loop().create_future()
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.table[host]]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    service = Names()
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **how: int) -> object:
        if isinstance(host, str) and host[0].isalpha():
            return await service.getaddrinfo(host, port)
        return await resolve(host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return service


def dialer(url: str, clock: FakeClock | None = None) -> Dialer:
    return Dialer(parse_endpoint(url), clock or FakeClock())


async def connect(subject: Dialer, timeout_s: float = 5.0) -> str:
    """Dial and hang up; where it went."""
    connected, address = await subject.dial(Hello, timeout_s)
    connected.transport.abort()
    return address


class Hello(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it


async def test_a_numeric_address_is_not_looked_up(names: Names) -> None:
    async with RawBackend() as backend:
        assert await connect(dialer(backend.url)) == "127.0.0.1"
    assert names.asked == 0


async def test_a_connection_is_watched_by_the_kernel() -> None:
    async with RawBackend() as backend:
        connected, _ = await dialer(backend.url).dial(Hello, 5.0)
        peer = connected.transport.get_extra_info("socket")
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connected.transport.abort()


async def test_a_name_is_looked_up_once_in_a_while(names: Names) -> None:
    clock = FakeClock()
    async with RawBackend() as backend:
        names.table["model"] = ["127.0.0.1"]
        subject = dialer(f"http://model:{backend.port}", clock)
        await connect(subject)
        clock.advance(29.0)
        await connect(subject)
        assert names.asked == 1
        clock.advance(1.0)
        await connect(subject)
        assert names.asked == 2


async def test_addresses_that_are_gone_are_told(names: Names) -> None:
    clock = FakeClock()
    gone: list[frozenset[str]] = []
    async with RawBackend() as backend:
        names.table["model"] = ["127.0.0.1", NOWHERE]
        subject = dialer(f"http://model:{backend.port}", clock)
        await connect(subject)
        names.table["model"] = ["127.0.0.1"]
        clock.advance(30.0)
        await connect(subject)
        subject.on_gone = gone.append
        names.table["model"] = ["127.0.0.1", NOWHERE]
        clock.advance(30.0)
        await connect(subject)
        assert gone == []
        names.table["model"] = ["127.0.0.1"]
        clock.advance(30.0)
        await connect(subject)
    assert gone == [frozenset({NOWHERE})]


async def test_the_next_address_is_tried(names: Names) -> None:
    async with RawBackend() as backend:
        names.table["model"] = [NOWHERE, "127.0.0.1"]
        subject = dialer(f"http://model:{backend.port}")
        assert [await connect(subject) for _ in range(3)] == ["127.0.0.1"] * 3


@pytest.fixture
def swallower() -> Iterator[int]:
    """A port of NOWHERE whose backlog is full: the kernel drops further attempts."""
    with socket.socket() as listener:
        port = free_port()  # of 127.0.0.1 too, where a backend will listen
        listener.bind((NOWHERE, port))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((NOWHERE, port))
            fillers.append(filler)
        yield port
        for filler in fillers:
            filler.close()


async def test_an_address_that_swallows_attempts_leaves_time_for_the_next(
    names: Names, swallower: int
) -> None:
    async with RawBackend(port=swallower):
        names.table["model"] = [NOWHERE, "127.0.0.1"]
        assert await connect(dialer(f"http://model:{swallower}"), timeout_s=2.0) == "127.0.0.1"


async def test_an_endpoint_that_swallows_attempts_times_out(swallower: int) -> None:
    with pytest.raises(ConnectTimeout, match=r"within 0\.05 s"):
        await connect(dialer(f"http://{NOWHERE}:{swallower}"), timeout_s=0.05)


async def test_a_name_service_that_does_not_answer_times_out(names: Names) -> None:
    names.is_silent = True
    with pytest.raises(ConnectTimeout):
        await connect(dialer("http://model:1"), timeout_s=0.01)


async def test_an_unknown_name_is_a_failed_dial(names: Names) -> None:
    with pytest.raises(ConnectFailed, match="not known"):
        await connect(dialer("http://model:1"))


async def test_after_a_failure_the_name_is_looked_up_again(names: Names) -> None:
    async with RawBackend() as backend:
        names.table["model"] = [NOWHERE]
        subject = dialer(f"http://model:{backend.port}")
        with pytest.raises(ConnectFailed):
            await connect(subject)
        names.table["model"] = ["127.0.0.1"]
        assert await connect(subject) == "127.0.0.1"


async def test_a_missing_socket_is_a_failed_dial() -> None:
    with pytest.raises(ConnectFailed, match="No such file"):
        await connect(dialer("unix:/nowhere/model.sock"))
