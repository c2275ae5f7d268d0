"""Entries in a SQLite file: they outlive a restart, and the processes of one machine may share them.

Owned by the store. The library's storage brings the connection, its thread and the table's life; added here
are a column for the instant at which an entry dies, reads and writes of many at once (a transaction costs 2
ms, a row in it 20 µs), a bound on bytes, and the table of generation tokens. The bound is on entries: pages
that they leave are used again, so the file stays near it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp_client_cache.backends.sqlite import SQLiteCache

from proxy.caching.tiers.base import Verbatim

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.caching.tiers.base import Record

__all__ = ("SqliteTier",)

_BUSY_S = 5.0  # another process's transaction; the caller's own time-out is much shorter
_OVER_BOUND = """
DELETE FROM entries WHERE key IN (
    SELECT key FROM (SELECT key, SUM(size) OVER (ORDER BY dead_at DESC, key) AS total FROM entries)
    WHERE total > ?)
"""


class SqliteTier(SQLiteCache):
    """At most `max_bytes` of sealed entries in the file `path` (made when it is not there)."""

    def __init__(self, path: str, max_bytes: int) -> None:
        super().__init__(path, "entries", serializer=Verbatim, timeout=_BUSY_S)
        self._max_bytes = max_bytes

    def __del__(self) -> None:
        if hasattr(self, "_connection"):  # it has none when the library's constructor raised
            super().__del__()  # type: ignore[no-untyped-call]  # the library's

    async def _init_db(self) -> None:
        connection = self._connection
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = NORMAL")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS entries"
            " (key TEXT PRIMARY KEY, value BLOB, dead_at REAL, size INTEGER) WITHOUT ROWID"
        )
        await connection.execute("CREATE INDEX IF NOT EXISTS by_death ON entries (dead_at, size)")
        await connection.execute("CREATE TABLE IF NOT EXISTS tokens (name TEXT PRIMARY KEY, token BLOB)")
        await connection.commit()
        self._initialized = True

    async def close(self) -> None:
        """Close the connection."""
        await super().close()  # type: ignore[no-untyped-call]  # the library's

    async def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is kept under `keys`."""
        async with self.get_connection() as connection:
            rows = await connection.execute_fetchall(
                "SELECT key, value FROM entries WHERE key IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(keys).decode(),),
            )
        return dict(map(tuple, rows))

    async def write_many(self, records: Iterable[Record]) -> None:
        """Keep `records` in one transaction."""
        rows = [(record.key, record.sealed, record.dead_at, len(record.sealed)) for record in records]
        async with self.get_connection(commit=True) as connection:
            await connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)

    async def read_tokens(self) -> dict[str, bytes]:
        """The generation tokens."""
        async with self.get_connection() as connection:
            rows = await connection.execute_fetchall("SELECT name, token FROM tokens")
        return dict(map(tuple, rows))

    async def write_tokens(self, tokens: Mapping[str, bytes]) -> None:
        """Keep generation tokens beside those that are there."""
        async with self.get_connection(commit=True) as connection:
            await connection.executemany("INSERT OR REPLACE INTO tokens VALUES (?, ?)", list(tokens.items()))

    async def sweep(self, now: float) -> None:
        """Free what died before `now`, and then what dies first until the rest is within the bound."""
        async with self.get_connection(commit=True) as connection:
            await connection.execute("DELETE FROM entries WHERE dead_at <= ?", (now,))
            (total,) = next(iter(await connection.execute_fetchall("SELECT TOTAL(size) FROM entries")))
            if total > self._max_bytes:
                await connection.execute(_OVER_BOUND, (self._max_bytes,))

    async def clear(self) -> None:
        """Free every entry, and the file's space with them."""
        async with self.get_connection(commit=True) as connection:
            await connection.execute("DELETE FROM entries")
        async with self.get_connection() as connection:
            await connection.execute("VACUUM")

    async def write(self, key: str, item: bytes | sqlite3.Binary) -> None:  # type: ignore[override]  # bytes only
        """Refuse: an entry without an instant of death would stay for ever."""
        raise TypeError("entries are written by write_many")
