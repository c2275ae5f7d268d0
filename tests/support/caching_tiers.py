"""A storage in memory that fails, hangs and forgets when a test says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.caching.tiers.base import Record

__all__ = ("ScriptedTier",)


class ScriptedTier:
    """A `Tier`. While `error` is set every operation raises it; while held, every operation waits."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.tokens: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.is_closed = False
        self.writes = 0
        self.reads: list[Sequence[str]] = []
        self.swept_at: list[float] = []
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def _turn(self) -> None:
        await self._open.wait()
        if self.error is not None:
            raise self.error

    async def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        self.reads.append(keys)
        await self._turn()
        return {key: self.records[key].sealed for key in keys if key in self.records}

    async def write_many(self, records: Iterable[Record]) -> None:
        await self._turn()
        self.writes += 1
        self.records |= {record.key: record for record in records}

    async def read_tokens(self) -> dict[str, bytes]:
        await self._turn()
        return dict(self.tokens)

    async def write_tokens(self, tokens: Mapping[str, bytes]) -> None:
        await self._turn()
        self.tokens |= tokens

    async def sweep(self, now: float) -> None:
        await self._turn()
        self.swept_at.append(now)

    async def clear(self) -> None:
        await self._turn()
        self.records.clear()

    async def size(self) -> int:
        await self._turn()
        return len(self.records)

    async def close(self) -> None:
        self.is_closed = True
        if self.error is not None:
            raise self.error
