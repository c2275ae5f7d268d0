"""The operator's endpoints of the cache, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.cache import cache_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Client = TestClient[web.Request, web.Application]


class Recorded:
    """A cache that remembers what was purged."""

    def __init__(self) -> None:
        self.purged: list[tuple[str, str]] = []

    async def stats(self) -> dict[str, object]:
        return {"results": {"hit": 3}, "storage": None}

    async def purge(self, upstream: str, model: str) -> None:
        self.purged.append((upstream, model))


@pytest.fixture
def cache() -> Recorded:
    return Recorded()


@pytest.fixture
async def client(cache: Recorded) -> AsyncIterator[Client]:
    app = web.Application()
    for route in cache_routes(cache):
        app.router.add_route(route.method, route.path, route.handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_stats_are_told(client: Client) -> None:
    response = await client.get("/cache")
    assert await response.json() == {"results": {"hit": 3}, "storage": None}


@pytest.mark.parametrize(
    ("query", "purged"),
    [
        ("", ("", "")),
        ("?model=resnet", ("", "resnet")),
        ("?upstream=gpu", ("gpu", "")),
        ("?upstream=gpu&model=a%2Fb", ("gpu", "a/b")),
    ],
)
async def test_a_purge_says_whose_answers_it_means(
    client: Client, cache: Recorded, query: str, purged: tuple[str, str]
) -> None:
    response = await client.post(f"/cache/purge{query}")
    upstream, model = purged
    assert await response.json() == {"purged": {"upstream": upstream or "*", "model": model or "*"}}
    assert cache.purged == [purged]


async def test_a_misspelt_filter_purges_nothing(client: Client, cache: Recorded) -> None:
    response = await client.post("/cache/purge?modle=resnet")
    assert (response.status, (await response.json())["error"]) == (400, "unknown parameter modle")
    assert cache.purged == []


async def test_reading_purges_nothing(client: Client, cache: Recorded) -> None:
    assert (await client.get("/cache/purge")).status == 405
    assert cache.purged == []
