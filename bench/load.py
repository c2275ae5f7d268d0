"""Running one measurement: our own generator, or wrk where a maximum is sought."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.generator.spec import LoadResult, LoadSpec

__all__ = (
    "NUMBER",
    "LoadFailed",
    "WrkResult",
    "generated",
    "h2load",
    "in_own_process",
    "parse_h2load",
    "parse_wrk",
    "wrk",
)

T = TypeVar("T")


class LoadFailed(Exception):
    """The client said why on standard error."""


async def generated(spec: LoadSpec) -> LoadResult:
    """Measure with a generator in a process of its own; `LoadFailed` when the server is not there."""
    return await in_own_process("bench.generator", spec, LoadResult)


async def in_own_process(module: str, spec: object, result: type[T]) -> T:
    """Run `module`, which reads `spec` and writes a `result`, both as JSON; `LoadFailed` when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(msgspec.json.encode(spec))
    if process.returncode:
        raise LoadFailed(f"{module} ended with exit code {process.returncode}")
    return msgspec.json.decode(output, type=result)


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk says: answers, answers per second, errors of any kind."""

    requests: int
    rate: float
    errors: int


async def wrk(
    url: str, body: bytes | None, *, connections: int, seconds: float, core: int, script: str = ""
) -> WrkResult:
    """Measure a maximum with wrk, one thread, whole seconds; `FileNotFoundError` when it is missing.

    `NUMBER` in `body` stands for a number that is counted up. `script` (Lua) makes the requests where they
    are not all the same.
    """
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is not installed (apt-get install wrk): maxima are measured with it")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        options: tuple[str, ...] = ()
        if script or body is not None:
            file = Path(folder) / "requests.lua"
            file.write_text(script or _lua(body or b""), encoding="ascii")
            options = ("-s", str(file))
        process = await asyncio.create_subprocess_exec(
            "taskset", "-c", str(core), program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
            *options,
            url,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
    return parse_wrk(output.decode())


def parse_wrk(output: str) -> WrkResult:
    """The figures in wrk's report."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.MULTILINE)
    total = re.search(r"^\s*(\d+) requests in", output, re.MULTILINE)
    if rate is None or total is None:
        raise ValueError(f"not a report of wrk: {output!r}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = sum(int(number) for found in (bad, broken) if found for number in found.groups())
    return WrkResult(int(total[1]), float(rate[1]), errors)


async def h2load(
    url: str, body: bytes, *, connections: int, streams: int, seconds: float, core: int
) -> WrkResult:
    """Measure a maximum of gRPC calls with h2load, whole seconds; `FileNotFoundError` when it is missing.

    It sees HTTP statuses only: gRPC's own are in trailers, which it does not judge."""
    program = shutil.which("h2load")
    if program is None:
        raise FileNotFoundError("h2load is not installed (apt-get install nghttp2-client)")
    with tempfile.NamedTemporaryFile(prefix="pillion-bench-") as data:
        data.write(body)
        data.flush()
        process = await asyncio.create_subprocess_exec(
            "taskset", "-c", str(core), program, "-t1", f"-c{connections}", f"-m{streams}",
            f"-D{max(1, round(seconds))}s", "--warm-up-time=1s", "-d", data.name,
            "-H", "content-type: application/grpc", "-H", "te: trailers", url,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
    return parse_h2load(output.decode())


def parse_h2load(output: str) -> WrkResult:
    """The figures in h2load's report."""
    rate = re.search(r"^finished in [^,]+, ([\d.]+) req/s", output, re.MULTILINE)
    counts = re.search(
        r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output, re.MULTILINE
    )
    good = re.search(r"^status codes: (\d+) 2xx", output, re.MULTILINE)
    if rate is None or counts is None or good is None:
        raise ValueError(f"not a report of h2load: {output!r}")
    succeeded, *bad = map(int, counts.groups())
    return WrkResult(succeeded, float(rate[1]), sum(bad) + succeeded - min(int(good[1]), succeeded))


NUMBER = b"@@@@@@@"
"""In a body: another number of seven digits in each request."""

_NUMBERED = """
local first, last = wrk.body:find("@@@@@@@", 1, true)
if first then
  local before, after, number = wrk.body:sub(1, first - 1), wrk.body:sub(last + 1), 0
  request = function()
    number = number % 9999999 + 1
    return wrk.format(nil, nil, nil, before .. string.format("%07d", number) .. after)
  end
end
"""


def _lua(body: bytes) -> str:
    escaped = "".join(f"\\{byte:03d}" for byte in body)
    usual = f'wrk.method = "POST"\nwrk.body = "{escaped}"\nwrk.headers["Content-Type"] = "application/json"\n'
    return usual + _NUMBERED if NUMBER in body else usual
