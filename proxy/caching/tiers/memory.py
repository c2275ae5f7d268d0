"""The memory in front of everything, as a storage of aiohttp-client-cache; hits bypass the coroutines.

Owned by the store. `lru` is used directly on a request's path, because a coroutine for each lookup would cost
more than the lookup; the storage interface serves the operator's verbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp_client_cache.backends.base import BaseCache

from proxy.caching.entries import Entry
from proxy.caching.lru import Lru
from proxy.caching.tiers.base import Verbatim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp_client_cache.backends.base import ResponseOrKey

__all__ = ("MemoryCache",)


class MemoryCache(BaseCache):
    """At most `max_bytes` of entries; keys are digests in hexadecimal."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(serializer=Verbatim)
        self.lru: Lru[Entry] = Lru(max_bytes)

    async def contains(self, key: str) -> bool:
        """Whether `key` is there."""
        return bytes.fromhex(key) in self.lru

    async def read(self, key: str) -> Entry | None:  # type: ignore[override]  # entries, not the library's responses
        """The entry under `key`, or None."""
        return self.lru.get(bytes.fromhex(key))

    async def write(self, key: str, item: Entry | ResponseOrKey) -> None:
        """Keep an `Entry`; TypeError for anything else."""
        if not isinstance(item, Entry):
            raise TypeError("the memory keeps entries")
        self.lru.put(bytes.fromhex(key), item)

    async def delete(self, key: str) -> None:
        """Forget `key`."""
        self.lru.drop(bytes.fromhex(key))

    async def bulk_delete(self, keys: set[str]) -> None:
        """Forget all of `keys`."""
        for key in keys:
            self.lru.drop(bytes.fromhex(key))

    async def clear(self) -> None:
        """Forget everything."""
        self.lru.clear()

    async def size(self) -> int:
        """How many entries there are."""
        return len(self.lru)

    async def keys(self) -> AsyncIterator[str]:
        """Every key."""
        for key in self.lru:
            yield key.hex()

    async def values(self) -> AsyncIterator[Entry]:  # type: ignore[override]  # entries, as in `read`
        """Every entry."""
        for entry in self.lru.values():
            yield entry
