"""The sending half of a session: frames that may leave now, and bodies that wait for a window.

Theory of operation
-------------------
Everything to be written is appended to one list, which the owner takes and writes once in each turn of its
loop.

A body never has to fit: what the stream's window, the connection's window and the frame size let through
becomes DATA at once, the rest waits in the stream's queue, and END_STREAM or trailers wait behind it. A
WINDOW_UPDATE (or a larger initial window) pumps the queues. When the connection's window is the bottleneck,
streams take turns, one frame each, and who was served goes to the back of the line, so that a large body
cannot starve a small one.

The owner keeps queues short by waiting for `SendQueueDrained` before it hands over more: a queue then holds
at most one piece of a body.

Data that a tiny window cuts into crumbs costs the peer's `control` budget: it is CPU spent at the peer's
wish."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from proxy.http2 import frames
from proxy.http2.blocks import TABLE_SIZE_ZERO
from proxy.http2.frames import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, header_frames, message_frames
from proxy.http2.limits import REFUND

if TYPE_CHECKING:
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Budget
    from proxy.http2.streams import Stream, Streams

__all__ = ("Sender",)

_LARGEST_FRAME: Final = 64 << 10  # a larger one would keep the other streams waiting
_CRUMB: Final = 256
_BULK: Final = 4096  # from here on a copy costs more than a place in a vector of pieces


class Sender:
    """What a session has to write, in order.

    `initial_window` and `frame_size` follow the peer's settings; `window_left` is the connection's. `unsent`
    counts replies to control frames since the last `take`. `has_bulk` says that large pieces are among `out`.
    """

    __slots__ = (
        "_blocked",
        "_budget",
        "_owes_resize",
        "_streams",
        "frame_size",
        "has_bulk",
        "initial_window",
        "out",
        "unsent",
        "window_left",
    )

    def __init__(self, streams: Streams, budget: Budget) -> None:
        self.out: list[Piece] = []
        self.has_bulk = False
        self.unsent = 0
        self.window_left = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self._streams = streams
        self._budget = budget
        self._blocked: dict[int, Stream] = {}
        self._owes_resize = True

    def take(self) -> list[Piece]:
        """All that is to be written now: in one piece, or without a copy where large bodies are in it."""
        pieces: list[Piece] = self.out if self.has_bulk else [b"".join(self.out)]
        self.out = []
        self.has_bulk = False
        self.unsent = 0
        return pieces

    def set_frame_size(self, size: int) -> None:
        """The peer takes frames of up to `size` bytes."""
        self.frame_size = min(size, _LARGEST_FRAME)

    def head(self, stream: Stream, block: bytes, *, end: bool) -> None:
        """HEADERS that open a message or announce it (1xx)."""
        self._budget.tokens += REFUND
        self._headers(stream, block, end=end)

    def message(self, stream: Stream, block: bytes, data: bytes, trailers: bytes | None) -> None:
        """A whole message; one piece when it fits the windows, which most calls do."""
        size = len(data)
        room = self.frame_size
        left = self.window_left - size
        if (
            left >= 0
            and size <= room > len(block)
            and size <= stream.send_left
            and (trailers is None or len(trailers) <= room)
        ):
            self._budget.tokens += REFUND
            if self._owes_resize:
                self._owes_resize = False
                block = TABLE_SIZE_ZERO + block
            stream.send_left -= size
            self.window_left = left
            self.out += message_frames(stream.id, block, data, trailers)
            self._streams.close_local(stream)
            return
        self.head(stream, block, end=False)
        if data or trailers is None:
            self.data(stream, data, end=trailers is None)
        if trailers is not None:
            self.trailers(stream, trailers)

    def data(self, stream: Stream, data: Piece, *, end: bool) -> None:
        """A piece of the body; what does not fit the windows is queued, and copied if it is a view."""
        size = len(data)
        if stream.queue is None and (
            not size or (size <= stream.send_left and size <= self.window_left and size <= self.frame_size)
        ):
            stream.send_left -= size
            self.window_left -= size
            self._append(stream, data, end=end)
            if end:
                self._streams.close_local(stream)
            return
        if stream.queue is None:
            stream.queue = deque()
        if data:
            stream.queue.append(memoryview(data))
            stream.queued += size
        if end:
            stream.tail = b""
        queue = stream.queue
        if not self._pump(stream, queue) and isinstance(data, memoryview):
            queue[-1] = memoryview(bytes(queue[-1]))  # it may wait for longer than its memory holds

    def parts(self, stream: Stream, parts: list[Piece], size: int) -> bool:
        """Pieces of the body, `size` bytes in all, in few frames; False when not all of it may leave now."""
        room = self.frame_size
        if stream.queue is not None or size > stream.send_left or size > self.window_left:
            return False
        out: list[Piece] = []
        batch: list[Piece] = []
        total = 0
        for part in parts:
            length = len(part)
            if length > room:
                return False
            if total + length > room:
                out.append(frames.data_header(stream.id, total))
                out += batch
                batch = []
                total = 0
            batch.append(part)
            total += length
        out.append(frames.data_header(stream.id, total))
        out += batch
        stream.send_left -= size
        self.window_left -= size
        self.out += out
        self.has_bulk = self.has_bulk or size >= _BULK
        return True

    def trailers(self, stream: Stream, block: bytes) -> None:
        """The fields after the body; they wait for it."""
        if stream.queue is None:
            self._headers(stream, block, end=True)
        else:
            stream.tail = block

    def window_opened(self, stream: Stream) -> bool:
        """The stream's window grew: send what it lets through; True when the queue became empty."""
        return stream.queue is not None and self._pump(stream, stream.queue)

    def windows_opened(self) -> list[int]:
        """The connection's window grew, or every stream's: blocked streams take turns.

        Returns the streams whose queue became empty.
        """
        drained: list[int] = []
        turns = deque(self._blocked.values())
        while turns:
            stream = turns.popleft()
            queue = stream.queue
            if queue is None or not self._send_one(stream, queue):
                continue
            if queue:
                self._blocked[stream.id] = self._blocked.pop(stream.id)
                turns.append(stream)
            else:
                self._finish(stream)
                drained.append(stream.id)
        return drained

    def forget(self, stream: Stream) -> None:
        """The stream was reset: nothing of it may be sent any more."""
        self._blocked.pop(stream.id, None)
        stream.queue = None
        stream.queued = 0

    # ------------------------------------------------------------- internals
    def _headers(self, stream: Stream, block: bytes, *, end: bool) -> None:
        if self._owes_resize:
            self._owes_resize = False
            block = TABLE_SIZE_ZERO + block
        self.out.append(header_frames(stream.id, block, self.frame_size, end_stream=end))
        if end:
            self._streams.close_local(stream)

    def _pump(self, stream: Stream, queue: deque[memoryview]) -> bool:
        while queue:
            if not self._send_one(stream, queue):
                self._blocked[stream.id] = stream
                return False
        self._finish(stream)
        return True

    def _send_one(self, stream: Stream, queue: deque[memoryview]) -> bool:
        """One DATA frame from the stream's queue; False when no window is open."""
        front = queue[0]
        size = min(len(front), self.frame_size, stream.send_left, self.window_left)
        if size <= 0:
            return False
        stream.send_left -= size
        self.window_left -= size
        stream.queued -= size
        if size == len(front):
            queue.popleft()
        else:
            queue[0] = front[size:]
            self._budget.tokens += REFUND if size > _CRUMB else -1.0
        self._append(stream, front[:size], end=not queue and stream.tail == b"")
        return True

    def _append(self, stream: Stream, data: Piece, *, end: bool) -> None:
        self.out += frames.data_frame(stream.id, data, end_stream=end)
        self.has_bulk = self.has_bulk or len(data) >= _BULK

    def _finish(self, stream: Stream) -> None:
        """The queue is empty: END_STREAM went with the last piece, or trailers follow now."""
        self._blocked.pop(stream.id, None)
        stream.queue = None
        tail, stream.tail = stream.tail, None
        if tail == b"":
            self._streams.close_local(stream)
        elif tail is not None:
            self._headers(stream, tail, end=True)
