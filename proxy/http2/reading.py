"""From what was read to frames: in whole or in parts, and whether they may come at all (RFC 9113 §3.4, §4).

Theory of operation
-------------------
`Reading.receive` takes what was read, runs each frame through its handler and returns the events that the
handlers made. The handlers are those of its subclasses.

Most messages are a whole header block and one DATA frame, with trailers behind an answer's, and most reads
bring all of it: such a message is taken in one step (`_take_message`), which does what its frames would have
done one by one. Whatever is unusual about it (padding, a second frame of body, a window too small, a status
without a body) leaves it to the handlers.

Which frame may come next is a gate: the peer's first frame must be SETTINGS, and between HEADERS without
END_HEADERS and its last CONTINUATION nothing else may come.

A large DATA frame need not be whole: each read brings its part of it, so that no body waits here to become a
frame. It is booked on the windows with its header. Parts of less than `BULK` bytes wait for more, since each
becomes a frame on its way out.

Of a read that is handed over as a view no large body is copied: its events hold parts of the view, good for
as long as what was read stays where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.http2 import frames
from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.frames import END_HEADERS, HEADER_SIZE, HEADERS, MAX_STREAM_ID, unpack_header

if TYPE_CHECKING:
    from proxy.http2.events import Event
    from proxy.http2.frames import Piece

__all__ = ("BULK", "Reading")

BULK: Final = 4096
"""DATA from here on is not copied until its pieces are put together."""
_BULK_WORD: Final = BULK << 8


class Reading:
    """The reading of one connection. `is_over` is true once it must be closed."""

    def __init__(self, frame_size: int) -> None:
        self.is_over = False
        self._reader = frames.FrameReader(frame_size)
        self._events: list[Event] = []
        self._now = 0.0
        self._gate: tuple[int, int] | None = (frames.SETTINGS, 0)
        self._missing = 0  # bytes of the DATA frame that was begun

    @property
    def is_mid_head(self) -> bool:
        """Whether the peer owes the rest of something short: its first SETTINGS, or a header block."""
        return self._gate is not None or (not self._missing and self._reader.begun == frames.HEADERS)

    def receive(self, data: Piece, now: float) -> list[Event]:
        """What `data`, read at the instant `now`, has brought."""
        if self.is_over:
            return []
        self._now = now
        events = self._events = []
        try:
            if isinstance(data, bytes):
                self._take(data)
            elif self._gate is not None or (self._reader.held and not self._missing):
                self._take(bytes(data))
            else:
                self._run_view(data, self._go_on(data) if self._missing else 0)
        except SessionError as error:
            self._end(error)
        self._events = []  # what the events refer to is not to be kept until the next read
        return events

    def _take(self, data: bytes) -> None:
        data = self._after_preface(data)
        if self._missing:
            position = self._go_on(data)
        else:
            first, position = self._reader.complete(data)
            if first:
                self._run(first, 0)
        self._run(data, position)

    def _run(self, data: bytes, position: int) -> None:
        """Handle each whole frame in `data` from `position` on, keep the rest."""
        size = len(data)
        reader = self._reader
        start = position + HEADER_SIZE
        while start <= size:
            word, flags, stream_id = unpack_header(data, position)
            stream_id &= MAX_STREAM_ID
            end = start + (word >> 8)
            if end - start > reader.max_frame_size:
                reader.end(word, stream_id, position)  # raises
            if end > size:
                if size - start >= BULK and self._begin(word, flags, stream_id, memoryview(data)[start:]):
                    position = size
                break
            position = end
            try:
                if word & 0xFF == HEADERS and flags == END_HEADERS and self._gate is None:
                    end = self._take_message(data, start, end, stream_id)
                    if end:
                        position = end
                        start = end + HEADER_SIZE
                        continue
                payload: Piece = (
                    data[start:position] if word < _BULK_WORD else memoryview(data)[start:position]
                )
                self._handle(word & 0xFF, flags, stream_id, payload)
            except StreamError as error:
                self._refuse(error, stream_id)
            start = position + HEADER_SIZE
        reader.keep(data, position)

    def _run_view(self, view: memoryview, position: int) -> None:
        """As `_run`, where most frames are DATA and large."""
        size = len(view)
        while size - position >= HEADER_SIZE:
            position = self._take_run(view, position)
            if size - position < HEADER_SIZE:
                break
            word, flags, stream_id = unpack_header(view, position)
            stream_id &= MAX_STREAM_ID
            end = self._reader.end(word, stream_id, position)
            part = view[position + HEADER_SIZE : end]
            is_bulk = len(part) >= BULK
            if end > size:
                if is_bulk and self._begin(word, flags, stream_id, part):
                    return
                break
            try:
                self._handle(word & 0xFF, flags, stream_id, part if is_bulk else bytes(part))
            except StreamError as error:
                self._refuse(error, stream_id)
            position = end
        self._reader.keep(bytes(view[position:]), 0)

    # ------------------------------------------------------------- a DATA frame in parts
    def _begin(self, word: int, flags: int, stream_id: int, part: memoryview) -> bool:
        """Take the first part of a frame, if it may come in parts."""
        if word & 0xFF != frames.DATA or flags & frames.PADDED or self._gate is not None:
            return False
        self._missing = (word >> 8) - len(part)
        try:
            self._begin_data(flags, stream_id, word >> 8, part)
        except StreamError as error:
            self._refuse(error, stream_id)
        return True

    def _go_on(self, data: Piece) -> int:
        """Take the next part of the frame that was begun; where the next frame begins in `data`."""
        reader = self._reader
        size = min(self._missing - reader.held, len(data))
        if reader.held + size < min(self._missing, BULK):
            reader.keep(bytes(data), 0)
            return size
        part = reader.take() + bytes(data[:size]) if reader.held else memoryview(data)[:size]
        self._missing -= len(part)
        self._go_on_data(part)
        return size

    def _handle(self, kind: int, flags: int, stream_id: int, payload: Piece) -> None:
        if self._gate is not None:
            self._pass_gate(kind, flags, stream_id)
        self._dispatch(kind, flags, stream_id, payload)

    # ------------------------------------------------------------- gate
    def _pass_gate(self, kind: int, flags: int, stream_id: int) -> None:
        if (kind, stream_id) != self._gate:
            wanted = self._gate or (0, 0)
            why = f"{_name(kind)} where only {_name(wanted[0])} may come"
            raise SessionError(ErrorCode.PROTOCOL_ERROR, why, stream_id)
        if kind == frames.SETTINGS:
            if flags & frames.ACK:
                raise SessionError(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is an acknowledgement")
            self._gate = None
            self._on_greeting()

    # ------------------------------------------------------------- overridden
    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: Piece) -> None:
        """Handle a frame that may come."""

    def _refuse(self, error: StreamError, stream_id: int) -> None:
        """Reset a stream."""

    def _end(self, error: SessionError) -> None:
        """End the connection: nothing is read any more."""

    def _on_greeting(self) -> None:
        """The peer's first SETTINGS has come."""

    def _after_preface(self, data: bytes) -> bytes:
        """`data` without the connection preface."""
        return data

    def _take_message(self, data: bytes, start: int, end: int, stream_id: int) -> int:
        """Take a small message at once that `data` holds whole; `start` and `end` are its header block's.

        Returns where the message ends; 0 when it is not of that kind, and nothing has happened then.
        """
        return 0

    def _take_run(self, view: memoryview, position: int) -> int:
        """Take whole DATA frames of one stream, if such come next; where they end."""
        return position

    def _begin_data(self, flags: int, stream_id: int, size: int, part: Piece) -> None:
        """The first part of a DATA frame of `size` bytes without padding."""

    def _go_on_data(self, part: Piece) -> None:
        """Another part; the last one if nothing is missing any more."""


def _name(kind: int) -> str:
    return frames.FRAME_NAMES[kind] if kind < len(frames.FRAME_NAMES) else f"frame type {kind}"
