"""The admin port of a running proxy, protected by a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


async def test_a_drain_by_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\n")
    config = tmp_path / "pillion.yaml"
    config.write_text(
        "version: 1\n"
        "upstreams: {model: {http: ['http://127.0.0.1:1']}}\n"
        "server: {admin: {token: {file: token}}}\n"
    )
    async with pillion("-c", str(config)) as sidecar, aiohttp.ClientSession() as client:
        async with client.post(f"{sidecar.admin}/drain") as refused:
            assert refused.status == 403
        async with client.get(f"{sidecar.admin}/livez") as alive:
            assert alive.status == 200
        authorization = {"Authorization": "Bearer hush"}
        async with client.post(f"{sidecar.admin}/drain", headers=authorization) as accepted:
            assert accepted.status == 202
        assert await sidecar.wait() == 0
