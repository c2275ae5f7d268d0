"""`pillion serve` as a process of its own, for end-to-end tests."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

__all__ = ("Sidecar", "pillion", "run_pillion")

_STARTUP_S = 180


class Sidecar:
    """A running `pillion serve`; `url`, `admin`, `grpc` and `l4` (where there is one) are where its listeners are."""

    def __init__(self, process: asyncio.subprocess.Process, addresses: dict[str, str]) -> None:
        self.process = process
        self.url = addresses["http"]
        self.admin = addresses["admin"]
        self.grpc = addresses.get("grpc", "")
        self.l4 = next((place for name, place in addresses.items() if name.startswith("l4.")), "")

    def signal(self, number: signal.Signals) -> None:
        """Send `number` to the process."""
        self.process.send_signal(number)

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        async with asyncio.timeout(_STARTUP_S):
            return await self.process.wait()


@asynccontextmanager
async def pillion(*arguments: str) -> AsyncIterator[Sidecar]:
    """Run ``pillion serve`` with `arguments` on free ports, until the block ends."""
    ports = ("--set", "server.http.listen=127.0.0.1:0", "--set", "server.admin.listen=127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy", "serve", *arguments, *ports, "--set", "observe.access_log.format=off"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": ""},
    )
    try:
        yield Sidecar(process, await _addresses(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _addresses(process: asyncio.subprocess.Process) -> dict[str, str]:
    """{"http": URL, "grpc": host:port, "admin": URL} from the lines that `serve` prints when it is ready."""
    addresses: dict[str, str] = {}
    assert process.stdout is not None
    async with asyncio.timeout(_STARTUP_S):
        while "admin" not in addresses:
            line = (await process.stdout.readline()).decode()
            if not line:
                raise AssertionError(f"pillion ended before it was ready: exit {await process.wait()}")
            words = line.split()
            if words[:1] == ["pillion"] and words[2:4] == ["listening", "on"]:
                addresses[words[1]] = words[4]
    return addresses


async def run_pillion(*arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of one verb that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": ""},
    )
    async with asyncio.timeout(_STARTUP_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
