"""Waiting for something that the code under test does in its own time.

How long that takes is never what is tested: the bound is there so that what never happens fails at the line that
waits, and it is far above what a busy machine needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("PATIENCE_S", "standstill", "stop_accepting", "until", "until_told")

PATIENCE_S: Final = 60.0

_TURNS = 200  # of the loop, before the machine is left to whoever is waited for
_LOOKS = 10


async def until(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Let the loop run until `is_so` returns True; `TimeoutError` when it takes longer than `patience_s`."""
    turns = 0
    async with asyncio.timeout(patience_s):
        while not is_so():
            turns += 1
            await asyncio.sleep(0 if turns < _TURNS else 0.001)


async def until_told(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask another process fifty times a second until it says True; `TimeoutError` after a minute."""
    async with asyncio.timeout(60.0):
        while not await is_so():  # noqa: ASYNC110  another process has no event
            await asyncio.sleep(0.02)


async def standstill(count: Callable[[], int]) -> int:
    """Return `count()` once it has stayed the same for as long as it takes to look ten times."""
    last, looks = count(), 0
    async with asyncio.timeout(PATIENCE_S):
        while looks < _LOOKS:
            await asyncio.sleep(0.005)  # in each of which everything that is ready happens
            now = count()
            last, looks = now, looks + 1 if now == last else 0
    return last


async def stop_accepting(server: asyncio.Server) -> None:
    """Close `server`; who was accepted a moment ago is connected when this returns, and can be closed as well."""
    server.close()
    for _ in range(3):
        await asyncio.sleep(0)
