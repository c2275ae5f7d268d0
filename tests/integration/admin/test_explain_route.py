"""The explanation's endpoint, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.explain import explain_route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Client = TestClient[web.Request, web.Application]


def repeat(method: str, url: str, fields: tuple[str, ...], body: bytes) -> object:
    """Explains a request by repeating it; knows no other URL than paths."""
    if not url.startswith("/"):
        raise ValueError("no such URL")
    return [method, url, fields, body.decode()]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application()
    route = explain_route(repeat)
    app.router.add_route(route.method, route.path, route.handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_request_is_described_by_parameters(client: Client) -> None:
    query = [("method", "POST"), ("url", "/a?b=1"), ("header", "A: 1"), ("header", "B: 2"), ("body", "ü")]
    response = await client.get("/explain", params=query)
    assert response.status == 200
    assert await response.json() == ["POST", "/a?b=1", ["A: 1", "B: 2"], "ü"]


async def test_get_is_the_usual_method(client: Client) -> None:
    response = await client.get("/explain?url=/a")
    assert await response.json() == ["GET", "/a", [], ""]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "url is missing"),
        ("?url=/a&headers=x", "unknown parameter headers"),
        ("?url=a", "no such URL"),
    ],
)
async def test_what_is_no_request_is_refused(client: Client, query: str, error: str) -> None:
    response = await client.get(f"/explain{query}")
    assert response.status == 400
    assert (await response.json())["error"] == error
