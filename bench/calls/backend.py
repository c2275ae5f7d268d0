"""``python -m bench.calls.backend unary|stream``: a gRPC server that computes nothing.

It never decodes a header block. ``unary`` answers each finished request with the same small message;
``stream`` answers with messages of 64 KiB for as long as they are taken, in DATA frames of 16 KiB, the most
that every peer accepts. Prints ``{"url": …}`` when it listens.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, ClassVar, Final, cast

import uvloop
from hpack import Encoder

from bench.calls.wire import message
from proxy.http2 import frames

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MESSAGE",)

MESSAGE: Final = 64 << 10
_ANSWER_BYTES: Final = 64
_WINDOW: Final = 1 << 30
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
        (frames.SETTING_INITIAL_WINDOW_SIZE, _WINDOW),
        (frames.SETTING_MAX_FRAME_SIZE, 1 << 20),
    )
) + frames.window_update_frame(0, _WINDOW)


class Connection(asyncio.Protocol):
    """One client; END_STREAM alone tells that a request has ended. `SENT` are an answer's field lists."""

    SENT: ClassVar[tuple[tuple[tuple[str, str], ...], ...]] = (_HEAD, _TRAILERS)

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._reader = frames.FrameReader(1 << 20)
        self._skip = len(frames.PREFACE)
        self._taken = 0
        self._out: list[bytes] = []
        encoder = Encoder()
        self._fresh_blocks = [encoder.encode(part) for part in self.SENT]
        self._blocks = [encoder.encode(part) for part in self.SENT]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_SETTINGS)

    def data_received(self, data: bytes) -> None:
        """Answer in one write whatever one read has finished."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        for kind, flags, stream_id, payload in self._reader.feed(data[skipped:]):
            if kind == frames.DATA:
                self._taken += len(payload)
            if kind in {frames.DATA, frames.HEADERS}:
                if flags & 1:
                    self.answer(stream_id)
            elif flags & frames.ACK == 0:
                self.control(kind, stream_id, payload)
        if self._taken > _WINDOW // 2:
            self._out.append(frames.window_update_frame(0, self._taken))
            self._taken = 0
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


class Unary(Connection):
    """Answers with one message."""

    _BODY: Final = message(_ANSWER_BYTES)

    def answer(self, stream_id: int) -> None:
        """The whole answer at once."""
        head, trailers = self._next_blocks()
        self._out += frames.message_frames(stream_id, head, self._BODY, trailers)


class Streaming(Connection):
    """Answers with messages for ever, as the client's windows allow."""

    SENT = (_HEAD,)

    _PIECES: Final = tuple(
        message(MESSAGE)[start : start + frames.DEFAULT_FRAME_SIZE]
        for start in range(0, MESSAGE + 5, frames.DEFAULT_FRAME_SIZE)
    )

    def __init__(self) -> None:
        super().__init__()
        self._initial = self._left = frames.DEFAULT_WINDOW
        self._streams: dict[int, list[int]] = {}
        self._is_writable = True

    def answer(self, stream_id: int) -> None:
        """The head; the messages follow."""
        self._out.append(frames.header_frames(stream_id, self._next_blocks()[0], 1 << 14, end_stream=False))
        self._streams[stream_id] = [self._initial, 0]
        self._pour()

    def control(self, kind: int, stream_id: int, payload: bytes) -> None:
        """Windows open, streams end."""
        super().control(kind, stream_id, payload)
        if kind == frames.SETTINGS:
            initial = dict(frames.parse_settings(payload)).get(frames.SETTING_INITIAL_WINDOW_SIZE)
            if initial is not None:
                self._initial = initial
        elif kind == frames.RST_STREAM:
            self._streams.pop(stream_id, None)
        elif kind == frames.WINDOW_UPDATE:
            increment = frames.parse_window_update(stream_id, payload)
            if not stream_id:
                self._left += increment
            elif stream_id in self._streams:
                self._streams[stream_id][0] += increment
        self._pour()

    def pause_writing(self) -> None:
        """The client's socket is full."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on."""
        self._is_writable = True
        self._pour()

    def _pour(self) -> None:
        """One piece for each stream in turn, until the socket or every window is full."""
        has_sent = True
        while has_sent and self._is_writable and not self._transport.is_closing():
            parts = [
                part for stream_id, state in self._streams.items() for part in self._piece(stream_id, state)
            ]
            has_sent = bool(parts)
            self._transport.writelines([*self._out, *parts])
            self._out.clear()

    def _piece(self, stream_id: int, state: list[int]) -> tuple[bytes, ...]:
        piece = self._PIECES[state[1]]
        if len(piece) > min(state[0], self._left):
            return ()
        state[0] -= len(piece)
        self._left -= len(piece)
        state[1] = (state[1] + 1) % len(self._PIECES)
        return (frames.frame(frames.DATA, 0, stream_id, piece),)


async def main(kind: Callable[[], Connection]) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=8192)
    print(f'{{"url": "http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}', flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(main({"unary": Unary, "stream": Streaming}[sys.argv[1]]))
