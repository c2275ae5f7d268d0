"""``python -m bench.generator.hold URL PATH N``: N clients that asked once and now keep their connection.

Prints one line when all are there, and stays until it is killed.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from time import monotonic

import uvloop

from proxy.demo.client import ClientConnection, connect, get

__all__ = ("hold",)

CONNECTS_AT_ONCE = 64


async def hold(url: str, path: str, count: int) -> None:
    """Open the connections in groups, wait for an answer on each, then for ever."""
    request = get(url, path)
    connections: list[ClientConnection] = []
    while len(connections) < count:
        group = min(CONNECTS_AT_ONCE, count - len(connections))
        connections += await asyncio.gather(*(_ask(url, request) for _ in range(group)))
    print(f"holding {len(connections)}", flush=True)
    await asyncio.get_running_loop().create_future()


async def _ask(url: str, request: bytes) -> ClientConnection:
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def is_answered(*_: object) -> None:
        if not answered.done():
            answered.set_result(None)

    def lost(_: ClientConnection) -> None:
        if not answered.done():
            answered.set_exception(ConnectionError(f"{url} closed a connection without an answer"))

    connection = await connect(url, is_answered, lost)
    connection.send(request, 0, monotonic())
    await answered
    return connection


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(hold(sys.argv[1], sys.argv[2], int(sys.argv[3])))
