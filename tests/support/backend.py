"""A backend of a test's own, on a free port, that leaves nothing behind.

async with backend(handler) as url:       # handler(reader, writer) serves one connection
    …
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tests.support.waiting import stop_accepting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("backend",)


@asynccontextmanager
async def backend(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    listener: socket.socket | None = None,
) -> AsyncIterator[str]:
    """The URL of a server whose connections are served by `handler`; a peer that hangs up is no error.

    It listens on a free port of this machine, or on `listener`.
    """
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
            await reader.read()
        writer.close()

    listener = listener or socket.create_server(("127.0.0.1", 0), backlog=512)
    server = await asyncio.start_server(serve, sock=listener)
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        await stop_accepting(server)
        await server.wait_closed()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)
