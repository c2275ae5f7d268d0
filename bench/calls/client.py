"""``python -m bench.calls.client``: a `CallSpec` on standard input, a `CallResult` on standard output.

A closed loop: each connection keeps `streams` calls going, and asks again as soon as one has ended. Every
answer is checked to its status. Of large messages what counts is the bytes: those of an endless answer as
they come (`stream`), those of a request once it was answered (`upload`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.calls.bulk import MESSAGE, UPLOAD, WINDOW, Pourer, Skimmer, Takings
from bench.calls.wire import QUESTION, SHAPES, Shape, blocks
from bench.machine import cpu_s
from bench.streams.reader import quantile
from proxy.http2 import frames
from proxy.http2.blocks import BlockReader

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("CallResult", "CallSpec", "Kind")

_FRAME = 64 << 10
_SETTINGS = ((frames.SETTING_INITIAL_WINDOW_SIZE, WINDOW), (frames.SETTING_MAX_FRAME_SIZE, _FRAME))
_HELLO = frames.PREFACE + frames.settings_frame(_SETTINGS) + frames.window_update_frame(0, WINDOW)


Kind = Literal["unary", "stream", "upload"]


class CallSpec(msgspec.Struct):
    """What to ask of `url`, and the processes to look at meanwhile: the proxy (`pid`) and its `backend`."""

    url: str
    seconds: float
    core: int
    pid: int
    backend: int = 0
    connections: int = 8
    streams: int = 16
    shape: Shape = "repeated"
    kind: Kind = "unary"
    bodies: list[bytes] = []
    """Messages to send in turn; none: one of 64 bytes."""
    warm_up_s: float = 1.0


class CallResult(msgspec.Struct):
    """What came back in `seconds`; `failed` counts answers other than OK. Spans in ms.

    CPU seconds of the proxy; `own_cpu` and `backend_cpu` are shares of a core.
    """

    seconds: float
    answers: int
    failed: int
    nbytes: int
    cpu_s: float
    own_cpu: float
    backend_cpu: float
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
        self._out.append(_HELLO)
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
            elif kind == frames.SETTINGS and not flags & frames.ACK:
                self._out.append(frames.settings_ack())
            elif kind == frames.PING and not flags & frames.ACK:
                self._out.append(frames.ping_frame(payload, ack=True))
            elif kind in {frames.RST_STREAM, frames.GOAWAY}:
                self._count.failed += 1
        self._count.nbytes += len(data)
        if self._taken > WINDOW // 4:
            self._out.append(frames.window_update_frame(0, self._taken))
            self._taken = 0
        self._write()

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
        self._asked_at[stream_id] = now
        self._out += frames.message_frames(stream_id, next(self._blocks), next(self._bodies), None)

    def _write(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()


class Mover(asyncio.BufferedProtocol):
    """One connection that takes or sends large messages."""

    def __init__(self, spec: CallSpec, call_blocks: list[bytes], count: Count) -> None:
        self._transport: asyncio.Transport
        self._spec = spec
        self._count = count
        self._blocks = cycle(call_blocks)
        self._skimmer = Skimmer()
        self._takings = Takings()
        self._decoder: BlockReader[Headers] = BlockReader(tuple, 1 << 20)
        self._next_id = 1
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the settings and ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._pourer = Pourer(self._transport)
        self._out.append(_HELLO)
        for _ in range(self._spec.streams):
            self._ask()
        self._write()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._skimmer.free()

    def buffer_updated(self, nbytes: int) -> None:
        """Count what has come; ask again for what has ended, send what may be sent."""
        for kind, flags, stream_id, size, payload in self._skimmer.skim(nbytes):
            if kind == frames.DATA:
                self._out += self._takings.took(stream_id, size)
                self._count.nbytes += size if self._spec.kind == "stream" else 0
            elif kind == frames.HEADERS:
                self._judge(self._decoder.head(payload), flags, stream_id)
            elif kind in {frames.RST_STREAM, frames.GOAWAY}:
                self._count.failed += 1
            elif not flags & frames.ACK:
                self._control(kind, stream_id, payload)
        self._write()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._pourer.is_writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._pourer.is_writable = True
        self._pourer.pour()

    def _control(self, kind: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.SETTINGS:
            self._out.append(frames.settings_ack())
        elif kind == frames.PING:
            self._out.append(frames.ping_frame(payload, ack=True))
        self._pourer.control(kind, stream_id, payload)

    def _judge(self, fields: Headers, flags: int, stream_id: int) -> None:
        count = self._count
        if (b":status", b"200") not in fields and (b"grpc-status", b"0") not in fields:
            count.failed += 1
        if flags & frames.END_STREAM:
            count.answers += 1
            is_good = (b"grpc-status", b"0") in fields
            count.failed += not is_good
            count.nbytes += UPLOAD * MESSAGE if is_good and self._spec.kind == "upload" else 0
            self._takings.ended(stream_id)
            self._ask()

    def _ask(self) -> None:
        stream_id = self._next_id
        self._next_id += 2
        block = next(self._blocks)
        if self._spec.kind == "stream":
            self._out += frames.message_frames(stream_id, block, QUESTION, None)
        else:
            self._out.append(frames.header_frames(stream_id, block, _FRAME, end_stream=False))
            self._pourer.begin(stream_id, UPLOAD)

    def _write(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
        self._pourer.pour()


async def measure(spec: CallSpec) -> CallResult:
    """Ask for as long as the spec says."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(spec.url)
    count = Count()
    connection = Caller if spec.kind == "unary" else Mover
    own_blocks = [blocks(spec.shape, number) for number in range(spec.connections)]
    for call_blocks in own_blocks:
        await loop.create_connection(
            partial(connection, spec, call_blocks, count), parts.hostname or "127.0.0.1", parts.port or 80
        )
    await asyncio.sleep(spec.warm_up_s)
    count.answers = count.nbytes = 0
    count.spans.clear()
    pids = (spec.pid, spec.backend) if spec.backend else (spec.pid,)
    used, own, at = [*map(cpu_s, pids)], time.process_time(), time.perf_counter()
    await asyncio.sleep(spec.seconds)
    seconds = time.perf_counter() - at
    return CallResult(
        seconds=seconds,
        answers=count.answers,
        failed=count.failed,
        nbytes=count.nbytes,
        cpu_s=cpu_s(spec.pid) - used[0],
        own_cpu=(time.process_time() - own) / seconds,
        backend_cpu=(cpu_s(spec.backend) - used[1]) / seconds if spec.backend else 0.0,
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
