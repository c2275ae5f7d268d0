"""`pillion serve` with a model that is declared deterministic, as its operator and its callers meet it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.models import sample_images
from proxy.demo.options import DemoOptions
from proxy.demo.server import DemoServer, start
from tests.support.sidecar import pillion, run_pillion
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

IMAGES = [list(pixels) for pixels, _ in sample_images()[:4]]
CONFIG = """
version: 1
upstreams:
  model: {{protocol: kserve-v1, http: ["{url}"]}}
models:
  "*": {{cache: {{mode: deterministic, ignore: [host]}}}} # each run listens on a port of its own
cache: {{backend: sqlite, url: "{file}", timeout: 10s, metadata: 1m}} # a busy machine is not what is tested
"""


@pytest.fixture
async def backend() -> AsyncIterator[DemoServer]:
    server = await start(DemoOptions(fixed_s=0.02), "127.0.0.1", 0)
    yield server
    await server.close()


@pytest.fixture
def config(backend: DemoServer, tmp_path: Path) -> str:
    path = tmp_path / "pillion.yaml"
    path.write_text(CONFIG.format(url=backend.url, file=tmp_path / "answers.sqlite"))
    return str(path)


async def predict(http: aiohttp.ClientSession, base: str, *images: Sequence[float]) -> tuple[str, bytes]:
    async with http.post(f"{base}/v1/models/digits:predict", json={"instances": images}) as reply:
        assert reply.status == 200
        return reply.headers.get("Cache-Status", ""), await reply.read()


async def test_an_answer_is_computed_once_and_outlives_a_restart(backend: DemoServer, config: str) -> None:
    async with aiohttp.ClientSession() as http:
        direct = [(await predict(http, backend.url, image))[1] for image in IMAGES]
        backend.stats.reset()
        async with pillion("-c", config) as sidecar:
            burst = await asyncio.gather(*(predict(http, sidecar.url, IMAGES[0]) for _ in range(50)))
            assert {body for _, body in burst} == {direct[0]}
            assert backend.stats.calls == 1
            status, both = await predict(http, sidecar.url, *IMAGES[:2])
            assert "partial" in status
            assert json.loads(both)["predictions"] == [
                prediction for body in direct[:2] for prediction in json.loads(body)["predictions"]
            ]
            await stopped(sidecar.admin, http)
            await sidecar.wait()
        calls = backend.stats.calls
        async with pillion("-c", config) as sidecar:
            assert (await predict(http, sidecar.url, IMAGES[1]))[0].startswith("pillion; hit")
            assert backend.stats.calls == calls


async def stopped(admin: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{admin}/drain") as reply:
        assert reply.status == 202


async def test_a_restarted_backend_is_asked_again_although_nobody_called_it_meanwhile(
    backend: DemoServer, config: str
) -> None:
    probes = "upstreams.model.health.every=50ms"
    async with aiohttp.ClientSession() as http, pillion("-c", config, "--set", probes) as sidecar:
        await became(http, sidecar.admin, 200)
        await predict(http, sidecar.url, IMAGES[0])
        assert (await predict(http, sidecar.url, IMAGES[0]))[0].startswith("pillion; hit")
        port = int(backend.url.rpartition(":")[2])
        await backend.close()
        await became(http, sidecar.admin, 503)
        assert (await predict(http, sidecar.url, IMAGES[0]))[0].startswith("pillion; hit")
        restarted = await start(DemoOptions(), "127.0.0.1", port)
        try:
            await became(http, sidecar.admin, 200)
            assert "fwd=uri-miss" in (await predict(http, sidecar.url, IMAGES[0]))[0]
        finally:
            await restarted.close()


async def became(http: aiohttp.ClientSession, admin: str, status: int) -> None:
    """Return once the proxy's readiness is answered with `status`."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with http.get(f"{admin}/readyz") as reply:
                if reply.status == status:
                    return
            await asyncio.sleep(0.01)


async def test_operators_see_and_purge(backend: DemoServer, config: str) -> None:
    async with aiohttp.ClientSession() as http, pillion("-c", config) as sidecar:
        for _ in range(3):
            await predict(http, sidecar.url, IMAGES[0])
        for _ in range(2):
            async with http.get(f"{sidecar.url}/v1/models/digits") as reply:
                assert reply.status == 200
        code, out, _ = await run_pillion("cache", "stats", "--admin", sidecar.admin)
        assert (code, json.loads(out)["results"]) == (0, {"miss": 2, "hit": 3})
        async with http.get(f"{sidecar.admin}/metrics") as page:
            assert 'pillion_cache_lookups_total{result="hit"} 3.0' in await page.text()
        code, out, _ = await run_pillion("cache", "purge", "--model", "digits", "--admin", sidecar.admin)
        assert (code, json.loads(out)) == (0, {"purged": {"upstream": "*", "model": "digits"}})
        assert "fwd=uri-miss" in (await predict(http, sidecar.url, IMAGES[0]))[0]
        code, _, err = await run_pillion(
            "cache", "purge", "--token-file", "/nowhere", "--admin", sidecar.admin
        )
        assert code == 1
        assert "/nowhere" in err


async def test_where_nothing_is_kept_there_is_nothing_to_see(backend: DemoServer) -> None:
    async with aiohttp.ClientSession() as http:
        async with pillion("--upstream", backend.url, "--protocol", "kserve-v1") as sidecar:
            assert (await predict(http, sidecar.url, IMAGES[0]))[0] == ""
            code, _, err = await run_pillion("cache", "stats", "--admin", sidecar.admin)
        assert code == 1
        assert "nothing is kept" in err
