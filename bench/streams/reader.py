"""``python -m bench.streams.reader``: a `ReadSpec` on standard input, a `ReadResult` on standard output.

Opens its streams, lets them run for the warm-up, then counts for the given time: bytes, events, their ages,
and what the process `pid` (the proxy) used meanwhile. With a `rate` it reads no faster than that many bytes
per second from all streams together, for the given time or until it has `most` of them, and looks at how far
ahead of it the source is. With `upload` it sends so many bytes as fast as they are taken, and looks at how
far it is ahead itself.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
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

__all__ = ("CATCH_UP_S", "ReadResult", "ReadSpec", "quantile")

CATCH_UP_S = 0.01
"""Who was held up himself makes good no more than this: a burst of reading would make the kernel give him a
larger buffer for good, which would count as ahead of him."""
_LOOK_S = 0.1
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
    most: int = sys.maxsize
    upload: int = 0
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
    if spec.upload:
        return await _upload(spec, rss_idle)
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


class Slow:
    """A measurement at the pace of the slower side; `moved` is what passed this end."""

    def __init__(self, spec: ReadSpec, rss_idle: int) -> None:
        self.spec = spec
        self.moved = 0
        self.began = time.monotonic()
        self._rss_idle = self._rss = rss_idle
        self._cpu, self._own = cpu_s(spec.pid), time.process_time()
        self._steps = 0
        self._ahead = 0
        self._looked = self.began

    @property
    def span_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    async def step(self, size: int, counter: str) -> None:
        """`size` bytes passed; now and then, look at the proxy's memory and at the other end's `counter`."""
        self.moved += size
        self._steps += 1
        spec, now = self.spec, time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        self._rss = max(self._rss, rss_bytes(spec.pid))
        if spec.source:
            shown = await drive(spec.source, [get(spec.source, "/sent")], 1)
            there = json.loads(shown.answers[0][1])[counter]
            self._ahead = max(self._ahead, self.moved - there if spec.upload else there - self.moved)

    def result(self) -> ReadResult:
        """What was found."""
        return ReadResult(
            seconds=self.span_s,
            nbytes=self.moved,
            reads=self._steps,
            events=0,
            cpu_s=cpu_s(self.spec.pid) - self._cpu,
            rss_idle=self._rss_idle,
            rss=self._rss,
            own_cpu=(time.process_time() - self._own) / self.span_s,
            ahead=self._ahead,
        )


async def _read_slowly(spec: ReadSpec, rss_idle: int) -> ReadResult:
    loop, peers = asyncio.get_running_loop(), [await _connected(spec) for _ in range(spec.streams)]
    for peer in peers:
        await loop.sock_sendall(peer, get(spec.url, spec.path))
    slow = Slow(spec, rss_idle)
    turns = itertools.cycle(peers)
    due = slow.began
    while slow.moved < spec.most and slow.span_s < spec.seconds:
        now = time.monotonic()
        if now < due:
            await asyncio.sleep(0.002)
            continue
        data = await loop.sock_recv(next(turns), 32768)
        if not data:
            break
        due = max(due, now - CATCH_UP_S) + len(data) / spec.rate
        await slow.step(len(data), "sent")
    for peer in peers:
        peer.close()
    return slow.result()


async def _upload(spec: ReadSpec, rss_idle: int) -> ReadResult:
    loop, block = asyncio.get_running_loop(), bytes(65536)
    with await _connected(spec) as peer:
        head = f"POST {spec.path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {spec.upload}\r\n\r\n"
        await loop.sock_sendall(peer, head.encode())
        slow = Slow(spec, rss_idle)
        while slow.moved < spec.upload and slow.span_s < spec.seconds:
            await loop.sock_sendall(peer, block)
            await slow.step(len(block), "taken")
        await loop.sock_recv(peer, 65536)
    return slow.result()


async def _connected(spec: ReadSpec) -> socket.socket:
    parts = urlsplit(spec.url)
    peer = socket.socket()
    peer.settimeout(0)
    await asyncio.get_running_loop().sock_connect(peer, (parts.hostname, parts.port))
    return peer


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
