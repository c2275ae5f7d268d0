"""`pillion serve` with nothing but an l4 listener: bytes, metrics, status, and the end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import aiohttp

from tests.support.sidecar import pillion
from tests.support.waiting import until_told

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """version: 1
server: {{l4: [{{listen: "127.0.0.1:0", upstream: bytes}}]}}
upstreams: {{bytes: {{l4: ["{place}"]}}}}
"""
SIZE = 8 << 20


async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the number of bytes, and as many bytes, once all have come."""
    if data := await reader.read():  # a probe sends nothing
        writer.write(b"%010d" % len(data) + data)
    writer.close()
    await writer.wait_closed()


async def test_bytes_metrics_and_drain(tmp_path: Path) -> None:
    config = tmp_path / "pillion.yaml"
    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config.write_text(CONFIG.format(place=place))
        async with pillion("-c", str(config)) as sidecar:
            host, _, port = sidecar.l4.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(bytes(SIZE))
            async with aiohttp.ClientSession() as session:
                answer = await session.get(sidecar.url)
                assert answer.status == 404

                async def is_ready() -> bool:
                    async with session.get(f"{sidecar.admin}/readyz") as ready:
                        return ready.status == 200

                await until_told(is_ready)
                sidecar.signal(signal.SIGTERM)
                writer.write_eof()
                assert await reader.readexactly(10) == b"%010d" % SIZE
                text = await (await session.get(f"{sidecar.admin}/metrics")).text()
                status = await (await session.get(f"{sidecar.admin}/status.json")).json()
                assert len(await reader.read()) == SIZE
            writer.close()
            assert await sidecar.wait() == 0
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("pillion_"))
    assert float(values['pillion_l4_bytes_total{direction="request",upstream="bytes"}']) == SIZE
    assert float(values['pillion_upstream_connections{protocol="l4",state="active",upstream="bytes"}']) == 1
    assert status["pools"]["bytes"][0]["health"] == "up"
    assert "l4.bytes" in {listener["name"] for listener in status["listeners"]}
