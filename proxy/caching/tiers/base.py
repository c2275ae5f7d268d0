"""What the room asks of a storage behind the memory, beside what aiohttp-client-cache's `BaseCache` already
is.

The library's storages are used without its session. The session decides what may be kept only after it has
taken a lock for the request's key, holds that lock across the upstream call, and reads every body to its end
before it returns a header; our own verdict comes first and our own pool carries the call. What remains is
what the library is good at: connections to a file or a server behind one small interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ("Record", "Tier", "Verbatim")


class Record(NamedTuple):
    """A sealed entry on its way into a storage; `dead_at` in seconds since the epoch."""

    key: str
    sealed: bytes
    dead_at: float


class Tier(Protocol):
    """A storage that outlives this process. Every method may raise whatever its driver raises."""

    async def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is kept under `keys`."""

    async def write_many(self, records: Iterable[Record]) -> None:
        """Keep `records`, replacing what has the same keys."""

    async def read_tokens(self) -> dict[str, bytes]:
        """The generation tokens (see `generations`)."""

    async def write_tokens(self, tokens: Mapping[str, bytes]) -> None:
        """Keep generation tokens beside those that are there."""

    async def sweep(self, now: float) -> None:
        """Free what died before `now`, and the oldest beyond the bound."""

    async def clear(self) -> None:
        """Free every entry; tokens stay."""

    async def size(self) -> int:
        """How many entries there are."""

    async def close(self) -> None:
        """Close connections; nothing else may be called afterwards."""


class Verbatim:
    """The library's serializer interface for bytes that are sealed already: no pickle, whatever comes."""

    @staticmethod
    def dumps(item: bytes) -> bytes:
        """`item` as it is."""
        return item

    @staticmethod
    def loads(item: bytes) -> bytes:
        """`item` as it is."""
        return item
