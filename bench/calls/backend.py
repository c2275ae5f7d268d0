"""``python -m bench.calls.backend unary|stream|upload``: a gRPC server that computes nothing.

It never decodes a header block. ``unary`` answers each finished request with the same small message;
``upload`` does the same and reads large requests without a copy; ``stream`` answers with messages of 64 KiB
for as long as they are taken. Prints ``{"url": …}`` when it listens.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, ClassVar, Final, cast

import uvloop
from hpack import Encoder

from bench.calls.bulk import WINDOW, Pourer, Skimmer, Takings
from bench.calls.wire import message
from proxy.http2 import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.calls.bulk import Found

__all__: tuple[str, ...] = ()

_ANSWER_BYTES: Final = 64
_STREAMS: Final = 1000
_HEAD: Final = (
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-encoding", "identity"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
)
_TRAILERS: Final = (("grpc-status", "0"),)
_SETTINGS: Final = frames.settings_frame(
    (
        (frames.SETTING_MAX_CONCURRENT_STREAMS, _STREAMS),
        (frames.SETTING_INITIAL_WINDOW_SIZE, WINDOW),
        (frames.SETTING_MAX_FRAME_SIZE, 1 << 20),
    )
) + frames.window_update_frame(0, WINDOW)


class Connection:
    """One client; END_STREAM alone tells that a request has ended. `SENT` are an answer's field lists."""

    SENT: ClassVar[tuple[tuple[tuple[str, str], ...], ...]] = (_HEAD, _TRAILERS)

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._takings = Takings()
        self._out: list[bytes] = []
        encoder = Encoder()
        self._fresh_blocks = [encoder.encode(part) for part in self.SENT]
        self._blocks = [encoder.encode(part) for part in self.SENT]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_SETTINGS)

    def take(self, found: Iterable[Found]) -> None:
        """Answer in one write whatever one read has finished."""
        for kind, flags, stream_id, size, payload in found:
            if kind == frames.DATA:
                self._out += self._takings.took(stream_id, size)
            if kind in {frames.DATA, frames.HEADERS}:
                if flags & 1:
                    self._takings.ended(stream_id)
                    self.answer(stream_id)
            elif flags & frames.ACK == 0:
                self.control(kind, stream_id, payload)
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def control(self, kind: int, stream_id: int, payload: bytes) -> None:
        """A frame that carries no request."""
        if kind == frames.SETTINGS:
            self._out.append(frames.settings_ack())
        elif kind == frames.PING:
            self._out.append(frames.ping_frame(payload, ack=True))

    def answer(self, stream_id: int) -> None:
        """A request has ended."""
        raise NotImplementedError

    def _next_blocks(self) -> list[bytes]:
        """The head and the trailers; the first ones on a connection fill the client's table."""
        blocks, self._fresh_blocks = self._fresh_blocks or self._blocks, []
        return blocks


class Whole(Connection):
    """Answers with one message, at once."""

    _BODY: Final = message(_ANSWER_BYTES)

    def answer(self, stream_id: int) -> None:
        """The whole answer at once."""
        head, trailers = self._next_blocks()
        self._out += frames.message_frames(stream_id, head, self._BODY, trailers)


class Unary(Whole, asyncio.Protocol):
    """For small requests."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = frames.FrameReader(1 << 20)
        self._skip = len(frames.PREFACE)

    def data_received(self, data: bytes) -> None:
        """A read."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self.take(
            (kind, flags, stream_id, len(payload), payload)
            for kind, flags, stream_id, payload in self._reader.feed(data[skipped:])
        )


class Upload(Whole, asyncio.BufferedProtocol):
    """For large requests, whose bytes nobody looks at."""

    def __init__(self) -> None:
        super().__init__()
        self._skimmer = Skimmer(len(frames.PREFACE))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._skimmer.free()

    def buffer_updated(self, nbytes: int) -> None:
        """A read."""
        self.take(self._skimmer.skim(nbytes))


class Streaming(Unary):
    """Answers with messages for ever, as the client's windows allow."""

    SENT = (_HEAD,)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the settings."""
        super().connection_made(transport)
        self._pourer = Pourer(self._transport)

    def answer(self, stream_id: int) -> None:
        """The head; the messages follow."""
        self._out.append(frames.header_frames(stream_id, self._next_blocks()[0], 1 << 14, end_stream=False))
        self._pourer.begin(stream_id)

    def control(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Windows open, streams end."""
        super().control(kind, stream_id, payload)
        self._pourer.control(kind, stream_id, payload)

    def take(self, found: Iterable[Found]) -> None:
        """Go on with what the read has let through."""
        super().take(found)
        self._pourer.pour()

    def pause_writing(self) -> None:
        """The client's socket is full."""
        self._pourer.is_writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._pourer.is_writable = True
        self._pourer.pour()


async def main(kind: Callable[[], Connection]) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(
        cast("Callable[[], asyncio.BaseProtocol]", kind), "127.0.0.1", 0, backlog=8192
    )
    print(f'{{"url": "http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}', flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(main({"unary": Unary, "stream": Streaming, "upload": Upload}[sys.argv[1]]))
