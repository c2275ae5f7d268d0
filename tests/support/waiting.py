"""Waiting for something that the code under test does in its own time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("until",)


async def until(is_so: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Let the loop run until `is_so` returns True; `TimeoutError` when it takes longer than `patience_s`."""
    async with asyncio.timeout(patience_s):
        while not is_so():  # noqa: ASYNC110  the code under test has no event for what it counts
            await asyncio.sleep(0)
