"""What slow clients do to the others: slowhttptest in its four modes, beside healthy clients.

A thousand connections send a head or a body a few bytes at a time, ask for many ranges, or read their answer
a few bytes at a time. Meanwhile healthy clients ask at a steady rate, each over a connection that is
open already. What is looked at is their latency and the largest size of the proxy's memory, which must stay
under what is set aside for bodies (``limits.buffered``) beside what it had before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import rss_bytes
from bench.report import Report
from bench.subjects import nginx_backend, pillion
from bench.suites.common import open_loop
from bench.tables import markdown
from proxy.demo.client import get

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.subjects import Running
    from bench.suites.common import Measured, Options

__all__ = ("hostile",)

CONNECTIONS = 1000
HEALTHY_RATE = 200.0
_OPENED_EACH_S = 500
_RAMP_S = 5.0
_LARGE = 4 << 20  # more than the kernel's buffers between two processes
_BOUND = 256 << 20  # limits.buffered, as it is unless set otherwise
_LOOK_S = 0.1
_WHOLE = (
    "location @whole { rewrite ^ / break; proxy_pass http://127.0.0.1:$port; }"  # reads whole bodies first
)
_MODES = {
    "nobody": (),
    "slow heads (-H)": ("-H", "-i", "2", "-x", "24"),
    "slow bodies (-B)": ("-B", "-i", "2", "-s", "8192", "-x", "10"),
    "ranges (-R)": ("-R", "-a", "5", "-b", "3000"),
    "slow reading (-X)": ("-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32", "-k", "3"),
}


@dataclass(frozen=True, slots=True)
class _Siege:
    """One mode: what the healthy clients measured, the memory before and at most, in bytes, and the most
    files that the proxy had open."""

    healthy: Measured
    before: int
    most: int
    files: int


async def hostile(options: Options) -> Report:
    """Run the suite; `FileNotFoundError` without slowhttptest or nginx."""
    if shutil.which("slowhttptest") is None:
        raise FileNotFoundError("slowhttptest is not installed (apt-get install slowhttptest)")
    report = Report("hostile", "What do a thousand slow clients do to the others?")
    found: dict[str, _Siege] = {}
    with _large_file() as folder:
        more = f"location /large {{ root {folder}; error_page 405 = @whole; }}" + _WHOLE
        for mode, arguments in _MODES.items():
            async with (
                nginx_backend(options.cores.backend, more=more) as backend,
                pillion(backend.url, options.cores.proxy) as subject,
            ):
                found[mode] = await _besiege(subject, arguments, options)
    _tell(report, found)
    return report


@contextmanager
def _large_file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx's worker is another user
        Path(folder, "large").write_bytes(b"x" * _LARGE)
        yield folder


async def _besiege(subject: Running, arguments: tuple[str, ...], options: Options) -> _Siege:
    await open_loop(subject.url, [get(subject.url, "/")], rate=HEALTHY_RATE, options=options)
    before = rss_bytes(subject.pid)
    seconds = round(_RAMP_S + options.seconds + 2)
    attack = await asyncio.create_subprocess_exec(
        "taskset", "-c", str(options.cores.load),
        *("slowhttptest", "-c", str(CONNECTIONS), "-r", str(_OPENED_EACH_S), "-l", str(seconds), "-p", "3"),
        *("-u", subject.url + "/large", *arguments),
        stdout=asyncio.subprocess.DEVNULL,
    ) if arguments else None  # fmt: skip
    most = [before, 0]
    watching = asyncio.get_running_loop().create_task(_watch(subject.pid, most))
    try:
        await asyncio.sleep(_RAMP_S if arguments else 0)
        healthy = await open_loop(subject.url, [get(subject.url, "/")], rate=HEALTHY_RATE, options=options)
    finally:
        watching.cancel()
        if attack is not None:
            with suppress(ProcessLookupError):  # it ends by itself when it has no connection left
                attack.terminate()
            await attack.wait()
    return _Siege(healthy, before, *most)


async def _watch(pid: int, most: list[int]) -> None:
    """Keep the largest resident size (bytes) and the largest number of open files of `pid` in `most`."""
    while True:
        seen = rss_bytes(pid), len(os.listdir(f"/proc/{pid}/fd"))
        most[:] = map(max, most, seen)
        await asyncio.sleep(_LOOK_S)


def _tell(report: Report, found: dict[str, _Siege]) -> None:
    rows = []
    for mode, siege in found.items():
        quantiles = siege.healthy.quantiles
        times = [f"{quantiles[name]:.2f}" for name in ("p50", "p99", "max")]
        sizes = [f"{size / (1 << 20):.0f}" for size in (siege.before, siege.most)]
        rows.append([mode, f"{siege.healthy.rate:,.0f}", *times, *sizes, f"{siege.files:,}"])
        report.data[mode] = siege.healthy.document() | {"rss_before": siege.before, "rss_most": siege.most}
    head = [
        "slow clients",
        "healthy/s",
        "p50, ms",
        "p99, ms",
        "longest, ms",
        "MiB before",
        "at most",
        "open files",
    ]
    report.section(f"{CONNECTIONS:,} slow connections", markdown(head, rows))
    besieged = [siege for mode, siege in found.items() if _MODES[mode]]
    worst = max(siege.healthy.quantiles["p99"] for siege in besieged)
    report.objective("p99 of healthy clients under 50 ms in every mode", [worst], most=50, unit="ms")
    grown = max(siege.most - siege.before for siege in besieged) / (1 << 20)
    claim = "memory grows by less than the bodies' bound"
    report.objective(claim, [grown], most=_BOUND / (1 << 20), unit="MiB")
