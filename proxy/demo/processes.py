"""Child processes that say when they are ready.

`child` owns the process and the task that reads what it prints (a full pipe would stop it). It waits for the
line that means ready, and ends the process with SIGTERM when the block is left, with SIGKILL when that does
not help.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

__all__ = ("Child", "ChildFailed", "child", "free_port", "free_ports")

_Ready = TypeVar("_Ready")

CHUNK = 65536
LAST_LINES = 20
"""What is kept of the output, for the error message."""
_PORTS = range(10_000, 32_768)
"""Below those that a system gives to whoever connects, or asks for any port."""


class ChildFailed(Exception):
    """The process ended, or kept silent, before it was ready; the message holds its last lines."""


class Child(Generic[_Ready]):
    """A running process; `ready` is what its line said."""

    def __init__(self, process: asyncio.subprocess.Process, ready: _Ready) -> None:
        self.process = process
        self.ready = ready
        self.pid = process.pid


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot be told to find one."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Several, each another one. No connection is given one of them meanwhile: see `_PORTS`."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


@contextlib.asynccontextmanager
async def child(
    arguments: Iterable[str],
    is_ready: Callable[[str], _Ready | None],
    *,
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
    start_s: float = 30.0,
    stop_s: float = 10.0,
) -> AsyncIterator[Child[_Ready]]:
    """Run a program until the block ends.

    It is ready when `is_ready` of a line that it prints is not None. `core` pins it, threads included.
    Raises `ChildFailed` when that takes more than `start_s`.
    """
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    loop = asyncio.get_running_loop()
    lines: deque[str] = deque(maxlen=LAST_LINES)
    ready: asyncio.Future[_Ready] = loop.create_future()
    reading = loop.create_task(_read(process, is_ready, ready, lines))
    try:
        async with asyncio.timeout(start_s):
            said = await ready
    except (TimeoutError, ChildFailed) as error:
        await _stop(process, reading, stop_s)
        output = "\n".join(lines)
        raise ChildFailed(f"{' '.join(arguments)}: {str(error) or 'not ready in time'}\n{output}") from None
    try:
        yield Child(process, said)
    finally:
        await _stop(process, reading, stop_s)


async def _read(
    process: asyncio.subprocess.Process,
    is_ready: Callable[[str], _Ready | None],
    ready: asyncio.Future[_Ready],
    lines: deque[str],
) -> None:
    assert process.stdout is not None  # noqa: S101  it was asked for
    unfinished = b""
    while data := await process.stdout.read(CHUNK):  # not readline: it gives up on a line that is too long
        *whole, unfinished = (unfinished + data).split(b"\n")
        for raw in whole:
            line = raw.decode(errors="replace").rstrip()
            lines.append(line)
            said = None if ready.done() else is_ready(line)
            if said is not None:
                ready.set_result(said)
    if not ready.done():
        ready.set_exception(ChildFailed("ended before it was ready"))


async def _stop(process: asyncio.subprocess.Process, reading: asyncio.Task[None], stop_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        process.terminate()
    try:
        async with asyncio.timeout(stop_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    await reading
