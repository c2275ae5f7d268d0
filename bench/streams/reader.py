"""``python -m bench.streams.reader``: a `ReadSpec` on standard input, a `ReadResult` on standard output.

Opens its streams, lets them run for the warm-up, then counts for the given time: bytes, events, their ages,
and what the process `pid` (the proxy) used meanwhile. With a `rate` it reads no faster than that many bytes
per second, from one stream, and looks at how far ahead of it the source is.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import sys
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.machine import cpu_s, rss_bytes
from proxy.demo.client import get
from proxy.demo.run import drive

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("ReadResult", "ReadSpec", "quantile")

_STAMP = b'data: {"at":'


class ReadSpec(msgspec.Struct):
    """What to read: `streams` times `path` of `url`."""

    url: str
    path: str
    seconds: float
    warm_up_s: float
    core: int
    pid: int
    streams: int = 1
    rate: float = 0.0
    source: str = ""


class ReadResult(msgspec.Struct):
    """What was read in `seconds`; ages in ms. `ahead` is the most that the source was ahead, in bytes."""

    seconds: float
    nbytes: int
    reads: int
    events: int
    cpu_s: float
    rss_idle: int
    rss: int
    own_cpu: float
    ahead: int = 0
    age_p50: float = 0.0
    age_p99: float = 0.0


class Count:
    """What the readers of one process have seen, together."""

    def __init__(self) -> None:
        self.nbytes = self.reads = self.events = 0
        self.ages: list[int] = []


class Reader(asyncio.BufferedProtocol):
    """Asks once and counts what comes."""

    def __init__(self, request: bytes, count: Count, buffer: memoryview) -> None:
        self._request = request
        self._count = count
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        cast("asyncio.Transport", transport).write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """All readers share one: nothing is kept."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Count; the age is that of the last event in the read, the youngest."""
        count = self._count
        count.nbytes += nbytes
        count.reads += 1
        data = bytes(self._buffer[: min(nbytes, 65536)])
        events = data.count(_STAMP)
        if events:
            count.events += events if nbytes <= 65536 else round(events * nbytes / 65536)
            at = data.rfind(_STAMP) + len(_STAMP)
            stamp = data[at : at + 16]
            if len(stamp) == 16:
                count.ages.append(time.monotonic_ns() - int(stamp))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` are at most; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


async def read(spec: ReadSpec) -> ReadResult:
    """Measure."""
    rss_idle = rss_bytes(spec.pid)
    if spec.rate:
        return await _read_slowly(spec, rss_idle)
    loop = asyncio.get_running_loop()
    parts = urlsplit(spec.url)
    host, port = parts.hostname or "", parts.port or 80
    count, buffer = Count(), memoryview(bytearray(1 << 20))
    request = get(spec.url, spec.path)
    for _ in range(spec.streams):
        await loop.create_connection(lambda: Reader(request, count, buffer), host, port)
    await asyncio.sleep(spec.warm_up_s)
    count.__init__()  # type: ignore[misc]  # start again, for all who hold it
    used, own, at = cpu_s(spec.pid), time.process_time(), time.monotonic()
    await asyncio.sleep(spec.seconds)
    seconds = time.monotonic() - at
    ages = [age / 1e6 for age in count.ages]
    return ReadResult(
        seconds=seconds,
        nbytes=count.nbytes,
        reads=count.reads,
        events=count.events,
        cpu_s=cpu_s(spec.pid) - used,
        rss_idle=rss_idle,
        rss=rss_bytes(spec.pid),
        own_cpu=(time.process_time() - own) / seconds,
        age_p50=quantile(ages, 0.5),
        age_p99=quantile(ages, 0.99),
    )


async def _read_slowly(spec: ReadSpec, rss_idle: int) -> ReadResult:
    loop = asyncio.get_running_loop()
    parts = urlsplit(spec.url)
    used, own = cpu_s(spec.pid), time.process_time()
    nbytes = reads = most = ahead = 0
    with socket.socket() as peer:
        peer.settimeout(0)
        await loop.sock_connect(peer, (parts.hostname, parts.port))
        await loop.sock_sendall(peer, get(spec.url, spec.path))
        began = looked = time.monotonic()
        while (now := time.monotonic()) - began < spec.seconds:
            if nbytes > spec.rate * (now - began):
                await asyncio.sleep(0.002)
                continue
            data = await loop.sock_recv(peer, 32768)
            if not data:
                break
            nbytes += len(data)
            reads += 1
            if now - looked > 0.1:
                looked = now
                most = max(most, rss_bytes(spec.pid))
                shown = await drive(spec.source, [get(spec.source, "/sent")], 1)
                ahead = max(ahead, json.loads(shown.answers[0][1])["sent"] - nbytes)
    return ReadResult(
        seconds=time.monotonic() - began,
        nbytes=nbytes,
        reads=reads,
        events=0,
        cpu_s=cpu_s(spec.pid) - used,
        rss_idle=rss_idle,
        rss=most,
        own_cpu=(time.process_time() - own) / spec.seconds,
        ahead=ahead,
    )


def main() -> int:
    """Run what standard input asks for."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReadSpec)
    os.sched_setaffinity(0, {spec.core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(read(spec))) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
