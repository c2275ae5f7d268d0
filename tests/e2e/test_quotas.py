"""`pillion serve` with keys that each may ask for so much."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.options import DemoOptions
from proxy.demo.server import start
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
server: {{auth: {{keys: [{keys}], rate: 0.001}}}}
upstreams: {{model: {{protocol: kserve-v1, http: ["{url}"]}}}}
"""


async def test_one_key_over_its_rate_leaves_the_other_alone(tmp_path: Path) -> None:
    keys = ("first", "second")
    digests = ", ".join(f'"{hashlib.sha256(key.encode()).hexdigest()}"' for key in keys)
    backend = await start(DemoOptions(), "127.0.0.1", 0)
    config = tmp_path / "pillion.yaml"
    config.write_text(CONFIG.format(keys=digests, url=backend.url))
    try:
        async with pillion("-c", str(config)) as sidecar, aiohttp.ClientSession() as http:
            answers = []
            for key in (*keys, *keys):
                bearer = {"Authorization": f"Bearer {key}"}
                async with http.get(f"{sidecar.url}/v1/models", headers=bearer) as reply:
                    answers.append((reply.status, "over_quota" in reply.headers.get("Proxy-Status", "")))
                    waits = int(reply.headers.get("Retry-After", 0))
            assert answers == [(200, False), (200, False), (429, True), (429, True)]
            assert 900 <= waits <= 1000
    finally:
        await backend.close()
