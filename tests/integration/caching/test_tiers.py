"""SQLite and Redis as storages: the same promises, kept by real drivers."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiosqlite
import pytest
from redis.asyncio import Redis

from proxy.caching.tiers.base import Record
from proxy.caching.tiers.redis import RedisTier
from proxy.caching.tiers.sqlite import SqliteTier
from tests.support.redis_server import redis_server
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.caching.tiers.base import Tier


def wall() -> float:
    return time.time()  # noqa: TID251  Redis counts in wall time


def record(key: str, sealed: bytes = b"sealed", lives_s: float = 60.0) -> Record:
    return Record(key, sealed, wall() + lives_s)


@asynccontextmanager
async def sqlite(directory: Path, max_bytes: int = 1 << 20) -> AsyncIterator[SqliteTier]:
    tier = SqliteTier(str(directory / "answers.sqlite"), max_bytes)
    try:
        yield tier
    finally:
        await tier.close()


@asynccontextmanager
async def redis(directory: Path) -> AsyncIterator[RedisTier]:
    async with redis_server(directory) as url:
        tier = RedisTier(url, 5.0, wall)
        try:
            yield tier
        finally:
            await tier.close()


@pytest.fixture(params=["sqlite", "redis"])
async def tier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteTier | RedisTier]:
    async with sqlite(tmp_path) if request.param == "sqlite" else redis(tmp_path) as opened:
        yield opened


async def test_what_is_written_is_read(tier: Tier) -> None:
    await tier.write_many([record("a", b"\x00\xff"), record("b")])
    assert await tier.read_many(["a", "c"]) == {"a": b"\x00\xff"}
    assert await tier.size() == 2
    await tier.write_many([record("a", b"new")])
    assert await tier.read_many(["a"]) == {"a": b"new"}
    assert await tier.size() == 2


async def test_tokens_outlive_a_purge(tier: Tier) -> None:
    assert await tier.read_tokens() == {}
    await tier.write_tokens({"model": b"\x01", "model/digits": b"\x02"})
    await tier.write_tokens({"model": b"\x03"})
    await tier.write_many([record("a")])
    await tier.clear()
    await tier.clear()
    assert (await tier.size(), await tier.read_many(["a"])) == (0, {})
    assert await tier.read_tokens() == {"model": b"\x03", "model/digits": b"\x02"}


async def test_the_librarys_own_interface_works_on_the_same_entries(tier: SqliteTier | RedisTier) -> None:
    await tier.write_many([record("a", b"1"), record("b", b"2"), record("c", b"3")])
    assert await tier.contains("a")
    assert await tier.read("a") == b"1"
    await tier.delete("a")
    await tier.bulk_delete({"b"})
    assert not await tier.contains("a")
    assert await tier.read("a") is None
    keys, values = tier.keys(), tier.values()
    assert ([key async for key in keys], [value async for value in values]) == (["c"], [b"3"])
    with pytest.raises(TypeError):
        await tier.write("d", b"4")


async def test_sqlite_outlives_its_process(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as tier:
        await tier.write_many([record("a")])
    async with sqlite(tmp_path) as tier:
        assert await tier.read_many(["a"]) == {"a": b"sealed"}


async def test_two_processes_share_a_sqlite_file(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as one, sqlite(tmp_path) as other:
        await one.write_many([record("a")])
        await other.write_many([record("b")])
        assert set(await one.read_many(["a", "b"])) == {"a", "b"}


async def test_a_sqlite_sweep_frees_the_dead_and_then_what_dies_first(tmp_path: Path) -> None:
    async with sqlite(tmp_path, max_bytes=25) as tier:
        await tier.write_many([record("dead", bytes(10), -1.0)])
        await tier.write_many([record(f"k{n}", bytes(10), 10.0 + n) for n in range(4)])
        await tier.sweep(wall())
        assert set(await tier.read_many(["dead", "k0", "k1", "k2", "k3"])) == {"k2", "k3"}


async def test_a_sqlite_file_stays_near_its_bound(tmp_path: Path) -> None:
    async with sqlite(tmp_path, max_bytes=1 << 20) as tier:
        for number in range(40):
            await tier.write_many([record(f"{number}-{n}", bytes(10_000), number) for n in range(10)])
            await tier.sweep(wall() - 100.0)
    assert (tmp_path / "answers.sqlite").stat().st_size < 2 << 20


async def test_redis_frees_what_is_dead_by_itself(tmp_path: Path) -> None:
    async with redis(tmp_path) as tier:
        await tier.write_many([record("dead", lives_s=-1.0), record("alive", lives_s=60.0)])
        connection = await tier.get_connection()
        assert 0 < await connection.pttl(tier._name("alive")) <= 60_000
        await tier.sweep(wall())
        async with asyncio.timeout(PATIENCE_S):
            while await tier.contains("dead"):
                continue  # its millisecond is not over
        assert await tier.size() == 1


async def test_a_redis_purge_leaves_what_is_not_ours(tmp_path: Path) -> None:
    async with redis(tmp_path) as tier:
        other = Redis.from_url(tier.address)
        await other.set("theirs", b"1")
        await tier.write_many([record(f"{n}") for n in range(2500)])
        await tier.clear()
        assert await tier.size() == 0
        assert await other.get("theirs") == b"1"
        await other.aclose()


async def test_no_table_of_the_library_is_made(tmp_path: Path) -> None:
    async with sqlite(tmp_path) as tier:
        await tier.size()
    async with aiosqlite.connect(tmp_path / "answers.sqlite") as connection:
        rows = await connection.execute_fetchall("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {row[0] for row in rows} == {"entries", "tokens"}
