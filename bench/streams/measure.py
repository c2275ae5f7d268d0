"""Starting the source, and one reader process for each measurement."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from bench.load import in_own_process
from bench.statistics import interleaved
from bench.streams.reader import ReadResult, ReadSpec
from bench.subjects import Running
from proxy.demo.processes import child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.report import Report
    from bench.suites.common import Options

__all__ = ("Found", "in_rounds", "keep", "read", "source")

Found = dict[str, list[ReadResult]]
"""What was read through each subject, round by round."""

_SETTLE_S = 0.5


@asynccontextmanager
async def source(core: int) -> AsyncIterator[Running]:
    """A `bench.streams.source` on `core`."""
    command = (sys.executable, "-m", "bench.streams.source")
    async with child(command, _url_in, core=core) as process:
        yield Running("direct", process.ready, process.pid)


async def read(
    subject: Running, path: str, options: Options, *, seconds: float = 0.0, **more: object
) -> ReadResult:
    """One measurement of `seconds` (0: what the options say); `more` is the rest of a `ReadSpec`."""
    spec = ReadSpec(
        url=subject.url,
        path=path,
        seconds=seconds or options.seconds,
        warm_up_s=1.5,
        core=options.cores.load,
        pid=subject.pid,
        **more,  # type: ignore[arg-type]  # checked by msgspec
    )
    result = await in_own_process("bench.streams.reader", spec, ReadResult)
    await asyncio.sleep(_SETTLE_S)  # every side notices that its streams are gone
    return result


async def in_rounds(running: dict[str, Running], path: str, options: Options, **more: object) -> Found:
    """The same measurement of every subject, interleaved."""
    found: Found = defaultdict(list)
    for name in interleaved(list(running), options.rounds):
        found[name].append(await read(running[name], path, options, **more))  # type: ignore[arg-type]  # as in `read`
    return found


def keep(report: Report, name: str, found: Found) -> None:
    """Every number, in the report's data."""
    report.data[name] = {
        who: [msgspec.to_builtins(result) for result in results] for who, results in found.items()
    }


def _url_in(line: str) -> str | None:
    return str(json.loads(line)["url"]) if line.startswith("{") else None
