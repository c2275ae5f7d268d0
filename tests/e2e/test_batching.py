"""`pillion serve` before servers of several protocols: what can be merged is, and nobody can tell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.options import DemoOptions
from proxy.demo.server import DemoServer, start
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow

ROUTED = """
version: 1
upstreams: {{own: {{http: ["{url}"]}}}}
routes: [{{match: {{path: "/v1/embeddings"}}, upstream: own, codec: openai_embeddings}}]
"""


@pytest.fixture
async def backend() -> AsyncIterator[DemoServer]:
    server = await start(DemoOptions(fixed_s=0.02), "127.0.0.1", 0)
    yield server
    await server.close()


async def embed(http: aiohttp.ClientSession, base: str, text: str) -> tuple[int, object]:
    body = {"model": "demo-embedding", "input": text}
    async with http.post(f"{base}/v1/embeddings", json=body) as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize("is_routed", [False, True], ids=["by protocol", "by an operator's route"])
async def test_embeddings_share_calls(backend: DemoServer, tmp_path: Path, is_routed: bool) -> None:
    config = tmp_path / "pillion.yaml"
    config.write_text(ROUTED.format(url=backend.url))
    said = ("-c", str(config)) if is_routed else ("--upstream", backend.url, "--protocol", "openai")
    texts = [f"text {number}" for number in range(24)]
    async with aiohttp.ClientSession() as http:
        direct = [await embed(http, backend.url, text) for text in texts]
        assert {status for status, _ in direct} == {200}
        backend.stats.reset()
        async with pillion(*said) as sidecar:
            through = await asyncio.gather(*(embed(http, sidecar.url, text) for text in texts))
    assert list(through) == direct
    assert backend.stats.calls < len(texts) / 2
