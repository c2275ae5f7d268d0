"""Runs the client of gRPC calls in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import msgspec

from bench.calls.client import CallResult, CallSpec
from bench.load import LoadFailed

if TYPE_CHECKING:
    from bench.subjects import Running
    from bench.suites.common import Options

__all__ = ("called",)


async def called(
    subject: Running, options: Options, *, core: int | None = None, **spec: object
) -> CallResult:
    """Measure with a `CallSpec`; `LoadFailed` when the subject is not there."""
    told = CallSpec(
        url=subject.url,
        seconds=options.seconds,
        core=options.cores.load if core is None else core,
        pid=subject.pid,
        **spec,  # type: ignore[arg-type]  # checked by msgspec
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.calls.client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(msgspec.json.encode(told))
    if process.returncode:
        raise LoadFailed(f"the client ended with exit code {process.returncode}")
    return msgspec.json.decode(output, type=CallResult)
