"""A real Redis for one test, on a Unix socket in a directory of its own; nothing is written to disk."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ("redis_server",)


@asynccontextmanager
async def redis_server(directory: Path) -> AsyncIterator[str]:
    """Run ``redis-server`` until the block ends; its URL."""
    socket = directory / "redis.sock"
    process = await asyncio.create_subprocess_exec(
        *("redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory)),
        *("--save", "", "--appendonly", "no"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(socket.exists)
        yield f"unix://{socket}"
    finally:
        process.kill()
        await process.wait()
