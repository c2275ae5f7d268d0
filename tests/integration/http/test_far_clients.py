"""Clients whose end of the connection the kernel does not know, and clients on a Unix socket."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

import pytest

from proxy.config.addresses import Address
from proxy.ingress.presence import Glance, PeerProbe, PeerState
from tests.integration.http.conformance import Backend
from tests.integration.http.dialogues import CHUNKED, GET, Scene, backend
from tests.support.raw_client import request
from tests.support.stage import stage
from tests.support.waiting import until
from tests.support.wire import read_message, response

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket
    from pathlib import Path

    from tests.integration.http.dialogues import Peer


class FarProbe(PeerProbe):
    """As if every client were on another machine: what has arrived is known, the other end is not."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def state(self, sock: TransportSocket) -> PeerState:
        self.asked += 1
        return "gone" if self.glance(sock) == "broken" else "unknown"


def far(scene: Scene) -> FarProbe:
    probe = FarProbe()
    scene.front.server._probe = probe
    return probe


async def asked(scene: Scene) -> Peer:
    peer = await scene.peer()
    await peer.head()
    return peer


async def test_a_half_closed_client_is_challenged_once_and_answered() -> None:
    async with backend() as scene, scene.client() as client:
        far(scene)
        await client.send(GET)
        client.half_close()
        peer = await asked(scene)
        interim = await client.receive(skip_interim=False)
        assert interim.status == 100
        await asyncio.sleep(0.1)  # two more looks
        peer.send(response(b"late"))
        answer = await client.receive(skip_interim=False)
        assert (answer.status, answer.body) == (200, b"late")
        assert await client.read_to_end() == b""


async def test_a_quick_answer_needs_no_challenge() -> None:
    async with backend() as scene, scene.client() as client:
        far(scene)
        await client.send(GET)
        client.half_close()
        (await asked(scene)).send(response(b"quick"))
        assert (await client.receive(skip_interim=False)).body == b"quick"


async def test_a_closed_client_answers_the_challenge_with_a_reset() -> None:
    async with backend() as scene:
        far(scene)
        client = await scene.client().__aenter__()
        await client.send(GET)
        peer = await asked(scene)
        await client.__aexit__(None, None, None)
        await peer.gone()
        await scene.at_rest()


async def test_a_client_that_stops_sending_in_its_answer_has_left() -> None:
    async with backend() as scene, scene.client() as client:
        far(scene)
        await client.send(GET)
        peer = await asked(scene)
        peer.send(CHUNKED + b"3\r\none\r\n")
        await client.read_some()
        client.half_close()
        await peer.gone()
        await scene.at_rest()


async def test_a_client_of_http_1_0_cannot_be_challenged() -> None:
    async with backend() as scene, scene.client() as client:
        probe = far(scene)
        await client.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        client.half_close()
        peer = await asked(scene)
        await until(lambda: probe.asked > 0)
        await asyncio.sleep(0.1)
        peer.send(response(b"late"))
        assert (await client.receive(skip_interim=False)).body == b"late"


async def test_a_broken_socket_is_a_client_that_is_gone() -> None:
    class Failing(PeerProbe):
        def glance(self, sock: TransportSocket) -> Glance:
            raise OSError

    async with backend() as scene, scene.client() as client:
        scene.front.server._probe = Failing()
        await client.send(GET)
        peer = await asked(scene)
        assert scene.front.server.peer_state(next(iter(scene.front.server._connections.values()))) == "gone"
        peer.send(response(b"ok"))
        await client.receive()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_client_on_a_unix_socket(tmp_path: Path, leaves: bool) -> None:
    place = Address("", 0, str(tmp_path / "socket"))
    async with Backend([response(b"ok")]) as server, stage(server.url, place=place) as front:
        assert front.url == f"unix:{place.path}"
        reader, writer = await asyncio.open_unix_connection(place.path)
        writer.write(request())
        await until(lambda: bool(server.requests))
        if leaves:
            writer.close()
            await until(lambda: not front.server._connections)
        else:
            writer.write_eof()
            assert (await read_message(reader, until_close=True)).body == b"ok"
            assert server.requests[0].header(b"x-forwarded-for") == b"unknown"
            writer.close()


async def test_the_debug_header_asks_where_the_time_went() -> None:
    async with backend() as scene, scene.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nPillion-Debug: 1\r\n\r\n")
        (await asked(scene)).send(response(b"ok"))
        timing = (await client.receive()).header(b"server-timing") or b""
        assert [span.split(b";")[0] for span in timing.split(b", ")] == [b"queue", b"pool", b"upstream"]


async def test_no_more_connections_than_file_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (300, 500))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: raised.append(limits))
    async with Backend([response(b"ok")]) as server, stage(server.url) as front:
        assert raised == [(500, 500)]
        assert front.server._most_connections == 244
    assert "may open only 500 files" in caplog.text
