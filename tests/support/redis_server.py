"""A real Redis for one test, on a Unix socket in a directory of its own; nothing is written to disk."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ("redis_server",)

_STARTUP_S = 60.0


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
        async with asyncio.timeout(_STARTUP_S):
            while not await _answers(socket):  # noqa: ASYNC110  Redis does not say when it listens
                await asyncio.sleep(0.01)
        yield f"unix://{socket}"
    finally:
        process.kill()
        await process.wait()


async def _answers(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
