"""An endpoint whose name comes to stand for another address."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from tests.integration.grpc.inference_rig import begin
from tests.support.clock import FakeClock
from tests.support.grpc_pools import call, channel_pool
from tests.support.http2_backend import Backend, Connection
from tests.support.waiting import until

if TYPE_CHECKING:
    import pytest

OLD, NEW = "127.0.0.1", "127.0.0.2"


async def test_channels_follow_a_name_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for = [OLD]

    async def getaddrinfo(host: str, port: int, **_: int) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (stands_for[0] if host == "model" else host, port))
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    clock, old, new = FakeClock(), Backend(), Backend()
    held: list[tuple[Connection, int]] = []
    old.respond = lambda connection, stream_id: held.append((connection, stream_id))
    async with (
        old.running() as backend,
        new.running(backend.port, NEW),
        channel_pool(backend.port, {"min": 1, "max": 2, "streams": 2}, host="model", clock=clock) as pool,
    ):
        in_progress = begin(pool.exchange(call()))
        await until(lambda: bool(held))
        stands_for[0] = NEW
        clock.advance(30.0)
        begun = begin(pool.exchange(call()))  # the channel is full with it: another is dialed
        await until(lambda: bool(new.connections) and pool.snapshot()["draining"] == 1)
        for connection, stream_id in held:
            connection.answer(stream_id)
        assert (await in_progress).body == (await begun).body == b"hello"
        await until(lambda: pool.snapshot()["draining"] == 0)
        assert (await pool.exchange(call())).body == b"hello"
        assert len(old.connections) == 1
        assert len(held) == 2
