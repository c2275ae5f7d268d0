"""A cache whose storage is dead, slow, damaged or full of somebody else's answers: requests go on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.config.fields import Secret
from tests.support.batching import HeldUpstream, predict_call
from tests.support.caching import PREDICT, a_cache, policy, status_of
from tests.support.redis_server import redis_server
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.caching.cache import Cache
    from proxy.exchange import Reply


@asynccontextmanager
async def running(backend: str, url: str, secret: str = "", timeout_s: float = 5.0) -> AsyncIterator[Cache]:
    cache = a_cache(
        backend=backend, url=Secret(url), secret=Secret(secret) if secret else None, timeout=timeout_s
    )
    await cache.start()
    try:
        yield cache
    finally:
        await cache.stop()


async def ask(cache: Cache, number: float = 1.5) -> Reply:
    return await cache.serve(predict_call(number), PREDICT, policy(), HeldUpstream().exchange)


async def still_works(cache: Cache) -> None:
    """An answer is computed, kept in memory and given again, whatever the storage does."""
    assert status_of(await ask(cache)) == "fwd=uri-miss; stored"
    assert status_of(await ask(cache)).startswith("hit")
    await cache.purge("", "")
    assert (await ask(cache)).status == 200
    assert (await cache.stats())["storage"] is not None


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_what_was_kept_is_found_by_another_process(backend: str, tmp_path: Path) -> None:
    async with redis_server(tmp_path) as redis:
        url = redis if backend == "redis" else str(tmp_path / "answers.sqlite")
        async with running(backend, url, "s3cret") as cache:
            first = await ask(cache)
        async with running(backend, url, "s3cret") as cache:
            again = await ask(cache)
            assert status_of(again).startswith("hit")
            assert again.body == first.body
            reply = await cache.serve(
                predict_call(1.5, headers=((b"Cache-Control", b"only-if-cached"),)),
                PREDICT,
                policy(),
                HeldUpstream().exchange,
            )
            assert reply.status == 504  # other fields, another question
        async with running(backend, url, "s3cret") as cache:
            call = predict_call(1.5)
            call.headers += ((b"Cache-Control", b"only-if-cached"),)
            reply = await cache.serve(call, PREDICT, policy(), HeldUpstream().exchange)
            assert (reply.status, reply.body) == (200, first.body)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_after_the_secret_was_changed_requests_go_on(backend: str, tmp_path: Path) -> None:
    async with redis_server(tmp_path) as redis:
        url = redis if backend == "redis" else str(tmp_path / "answers.sqlite")
        async with running(backend, url, "old") as cache:
            await ask(cache)
        async with running(backend, url, "new") as cache:
            await still_works(cache)
            assert cache.store.errors == {"open": 1}


async def test_with_a_damaged_file_requests_go_on(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database, " * 1000)
    async with running("sqlite", str(path)) as cache:
        await still_works(cache)
        assert cache.store.errors
    assert path.read_bytes().startswith(b"this is no database")  # it may be somebody's: it is left alone


async def test_with_no_place_for_the_file_requests_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with running("sqlite", str(tmp_path / "file" / "answers.sqlite")) as cache:
        await still_works(cache)


async def test_with_redis_down_requests_go_on(tmp_path: Path) -> None:
    async with running("redis", f"unix://{tmp_path}/nobody.sock") as cache:
        await still_works(cache)
        assert cache.store.errors["read_tokens"] == 1


async def test_when_redis_dies_requests_go_on(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as url:
        cache = a_cache(backend="redis", url=Secret(url), timeout=5.0)
        await cache.start()
        assert status_of(await ask(cache)) == "fwd=uri-miss; stored"
    assert status_of(await ask(cache, 2.5)) == "fwd=uri-miss; stored"
    assert cache.store.errors
    await cache.stop()


async def test_with_redis_slow_requests_go_on() -> None:
    connected = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with running("redis", f"redis://127.0.0.1:{port}", timeout_s=0.01) as cache:
            await still_works(cache)
            assert cache.store.errors
        assert connected
        server.close()
        await until(lambda: all(writer.is_closing() for writer in connected))
