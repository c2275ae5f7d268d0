"""``python -m bench.calls.client``: a `CallSpec` on standard input, a `CallResult` on standard output.

A closed loop: each connection keeps `streams` calls going, and asks again as soon as one has ended. Every
answer is checked to its status. With `is_streaming` a call has no end, and what counts is the bytes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from itertools import cycle
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.calls.wire import QUESTION, SHAPES, Shape, blocks
from bench.machine import cpu_s
from bench.streams.reader import quantile
from proxy.http2 import frames
from proxy.http2.blocks import BlockReader

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("CallResult", "CallSpec")

_WINDOW = 1 << 30
_FRAME = 64 << 10


class CallSpec(msgspec.Struct):
    """What to ask of `url`, and the process `pid` (the proxy) to look at meanwhile."""

    url: str
    seconds: float
    core: int
    pid: int
    connections: int = 8
    streams: int = 16
    shape: Shape = "repeated"
    is_streaming: bool = False
    bodies: list[bytes] = []
    """Messages to send in turn; none: one of 64 bytes."""
    warm_up_s: float = 1.0


class CallResult(msgspec.Struct):
    """What came back in `seconds`; `failed` counts answers other than OK. Spans in ms, CPU in seconds."""

    seconds: float
    answers: int
    failed: int
    nbytes: int
    cpu_s: float
    own_cpu: float
    p50: float
    p99: float


class Count:
    """What the connections of one process have seen, together."""

    def __init__(self) -> None:
        self.answers = self.failed = self.nbytes = 0
        self.spans: list[float] = []


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, spec: CallSpec, call_blocks: list[bytes], count: Count) -> None:
        self._transport: asyncio.Transport
        self._spec = spec
        self._count = count
        self._blocks = cycle(call_blocks)
        self._bodies = cycle(spec.bodies or [QUESTION])
        self._reader = frames.FrameReader(_FRAME)
        self._decoder: BlockReader[Headers] = BlockReader(tuple, 1 << 20)
        self._asked_at: dict[int, float] = {}
        self._next_id = 1
        self._taken = 0
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the settings and ask."""
        self._transport = cast("asyncio.Transport", transport)
        settings = (
            (frames.SETTING_INITIAL_WINDOW_SIZE, _WINDOW),
            (frames.SETTING_MAX_FRAME_SIZE, _FRAME),
        )
        self._out.append(frames.PREFACE + frames.settings_frame(settings))
        self._out.append(frames.window_update_frame(0, _WINDOW))
        for _ in range(self._spec.streams):
            self._ask(time.perf_counter())
        self._write()

    def data_received(self, data: bytes) -> None:
        """Count what has come, ask again for what has ended."""
        now = time.perf_counter()
        for kind, flags, stream_id, payload in self._reader.feed(data):
            if kind == frames.HEADERS:
                self._judge(self._decoder.head(payload), flags, stream_id, now)
            elif kind == frames.DATA:
                self._taken += len(payload)
                if self._spec.is_streaming:
                    self._out += self._opened(stream_id, len(payload))
            elif kind == frames.SETTINGS and not flags & frames.ACK:
                self._out.append(frames.settings_ack())
            elif kind == frames.PING and not flags & frames.ACK:
                self._out.append(frames.ping_frame(payload, ack=True))
            elif kind in {frames.RST_STREAM, frames.GOAWAY}:
                self._count.failed += 1
        self._count.nbytes += len(data)
        if self._taken > _WINDOW // 4:
            self._out.append(frames.window_update_frame(0, self._taken))
            self._taken = 0
        self._write()

    def _opened(self, stream_id: int, size: int) -> list[bytes]:
        """A stream's window, given back by the quarter; `_asked_at` holds what is owed of an endless call."""
        self._asked_at[stream_id] = owed = self._asked_at[stream_id] + size
        if owed < _WINDOW // 4:
            return []
        self._asked_at[stream_id] = 0
        return [frames.window_update_frame(stream_id, int(owed))]

    def _judge(self, fields: Headers, flags: int, stream_id: int, now: float) -> None:
        if (b":status", b"200") not in fields and (b"grpc-status", b"0") not in fields:
            self._count.failed += 1
        if flags & frames.END_STREAM:
            count = self._count
            count.answers += 1
            count.failed += (b"grpc-status", b"0") not in fields
            count.spans.append(now - self._asked_at.pop(stream_id))
            self._ask(now)

    def _ask(self, now: float) -> None:
        stream_id = self._next_id
        self._next_id += 2
        self._asked_at[stream_id] = 0 if self._spec.is_streaming else now
        self._out += frames.message_frames(stream_id, next(self._blocks), next(self._bodies), None)

    def _write(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()


async def measure(spec: CallSpec) -> CallResult:
    """Ask for as long as the spec says."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(spec.url)
    count, call_blocks = Count(), blocks(spec.shape)
    for _ in range(spec.connections):
        await loop.create_connection(
            lambda: Caller(spec, call_blocks, count), parts.hostname or "127.0.0.1", parts.port or 80
        )
    await asyncio.sleep(spec.warm_up_s)
    count.answers = count.nbytes = 0
    count.spans.clear()
    used, own, at = cpu_s(spec.pid), time.process_time(), time.perf_counter()
    await asyncio.sleep(spec.seconds)
    seconds = time.perf_counter() - at
    return CallResult(
        seconds=seconds,
        answers=count.answers,
        failed=count.failed,
        nbytes=count.nbytes,
        cpu_s=cpu_s(spec.pid) - used,
        own_cpu=(time.process_time() - own) / seconds,
        p50=quantile(count.spans, 0.5) * 1e3,
        p99=quantile(count.spans, 0.99) * 1e3,
    )


def main() -> int:
    """Run what standard input asks for."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=CallSpec)
    assert spec.shape in SHAPES
    os.sched_setaffinity(0, {spec.core})
    gc.disable()
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measure(spec))) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
