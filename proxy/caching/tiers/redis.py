"""Entries in Redis, shared between sidecars.

Owned by the store. The library's storage brings the connection; it keeps everything in one hash, whose fields
could not expire by themselves. Here each entry is a key of its own, with its own time to live, so that Redis
frees what is dead and its operator's `maxmemory` policy can choose among the rest. Reads and writes of many
entries are one round trip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from aiohttp_client_cache.backends.redis import RedisCache

from proxy.caching.tiers.base import Verbatim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from proxy.caching.tiers.base import Record

__all__ = ("RedisTier",)

_NAMESPACE = "pillion"
_SCAN = 1000  # keys for each round trip of a walk over all of them


class RedisTier(RedisCache):
    """Sealed entries in the Redis at `url`; `now` gives seconds since the epoch, `timeout_s` bounds a
    socket's wait."""

    def __init__(self, url: str, timeout_s: float, now: Callable[[], float]) -> None:
        super().__init__(
            _NAMESPACE,
            "entries",
            address=url,
            serializer=Verbatim,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        self._now = now

    async def get_connection(self) -> Redis:
        """The connection, made at first use."""
        connection: Redis = await super().get_connection()  # type: ignore[no-untyped-call]  # the library's
        return connection

    def _name(self, key: str) -> str:
        return f"{self.hash_key}:{key}"

    async def close(self) -> None:
        """Close the connection."""
        await super().close()  # type: ignore[no-untyped-call]  # the library's

    async def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is kept under `keys`, in one round trip."""
        connection = await self.get_connection()
        values = cast("list[bytes | None]", await connection.mget([self._name(key) for key in keys]))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def write_many(self, records: Iterable[Record]) -> None:
        """Keep `records` until they die, in one round trip."""
        now = self._now()
        connection = await self.get_connection()
        async with connection.pipeline(transaction=False) as pipeline:
            for record in records:
                pipeline.set(
                    self._name(record.key), record.sealed, px=max(1, math.ceil((record.dead_at - now) * 1e3))
                )
            await pipeline.execute()

    async def read_tokens(self) -> dict[str, bytes]:
        """The generation tokens."""
        connection = await self.get_connection()
        tokens = cast("dict[bytes, bytes]", await connection.hgetall(self._tokens))
        return {name.decode(): token for name, token in tokens.items()}

    async def write_tokens(self, tokens: Mapping[str, bytes]) -> None:
        """Keep generation tokens beside those that are there."""
        connection = await self.get_connection()
        pairs = [part for pair in tokens.items() for part in pair]
        await connection.hset(self._tokens, items=pairs)

    @property
    def _tokens(self) -> str:
        return f"{_NAMESPACE}:tokens"

    async def sweep(self, now: float) -> None:
        """Nothing to do: Redis frees what is dead."""

    # ------------------------------------------------------------- the library's storage, without its hash
    async def read(self, key: str) -> bytes | None:
        """What is kept under `key`."""
        return (await self.read_many([key])).get(key)

    async def contains(self, key: str) -> bool:
        """Whether `key` is there."""
        return bool(await (await self.get_connection()).exists(self._name(key)))

    async def write(self, key: str, item: object) -> None:
        """Refuse: an entry without a time to live would stay for ever."""
        raise TypeError("entries are written by write_many")

    async def delete(self, key: str) -> None:
        """Free `key`."""
        await self.bulk_delete({key})

    async def bulk_delete(self, keys: set[str]) -> None:
        """Free all of `keys`."""
        await (await self.get_connection()).unlink(*map(self._name, keys))

    async def clear(self) -> None:
        """Free every entry of ours, a few at a time; other users of the same Redis keep theirs."""
        batch: set[str] = set()
        async for key in self.keys():
            batch.add(key)
            if len(batch) >= _SCAN:
                await self.bulk_delete(batch)
                batch.clear()
        if batch:
            await self.bulk_delete(batch)

    async def size(self) -> int:
        """How many entries there are, counted one by one."""
        count = 0
        async for _ in self.keys():
            count += 1
        return count

    async def keys(self) -> AsyncIterator[str]:
        """Every key of ours, read in pieces: a walk never blocks Redis."""
        connection = await self.get_connection()
        start = len(self.hash_key) + 1
        async for name in connection.scan_iter(match=f"{self.hash_key}:*", count=_SCAN):
            yield name.decode()[start:]

    async def values(self) -> AsyncIterator[bytes]:
        """Every entry, sealed."""
        async for key in self.keys():
            value = await self.read(key)
            if value is not None:
                yield value
