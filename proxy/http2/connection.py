"""The connection itself: reading frames, settings, pings, GOAWAY, and what becomes of errors (RFC 9113 §5.4,
§6).

Theory of operation
-------------------
`Connection.receive` takes what was read, runs each frame through its handler and returns what the owner has
to know. Nothing here waits, knows the time other than from its caller, or raises because of the peer:

* a broken rule that concerns one stream (`StreamError`) becomes RST_STREAM and a `StreamReset` event;
* one that concerns the connection (`SessionError`) becomes GOAWAY and a `SessionEnded` event, after the
  events of the frames before it. From then on nothing is read any more.

Most messages are a whole header block and one DATA frame, with trailers behind an answer's, and most reads
bring all of it: such a message is taken in one step (`_take_message`), which does what its frames would have
done one by one. Whatever is unusual about it (padding, a second frame of body, a window too small, a status
without a body) leaves it to the handlers.

Which frame may come next is a gate: the peer's first frame must be SETTINGS, and between HEADERS without
END_HEADERS and its last CONTINUATION nothing else may come.

A large DATA frame need not be whole: each read brings its part of it, so that no body waits here to become a
frame. It is booked on the windows with its header. Parts of less than `BULK` bytes wait for more, since each
becomes a frame on its way out.

`receive_view` does what `receive` does and copies no large body: its events hold parts of the view, good for
as long as what was read stays where it is.

Our settings hold for the peer only once it has acknowledged them, the peer's for us as soon as they arrive.
Frames that do no work draw on a budget, and replies to them are counted until they are written: see `limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.http2 import frames
from proxy.http2.errors import ErrorCode, SessionError, StreamError, describe
from proxy.http2.events import (
    Event,
    GoawayReceived,
    PingAcked,
    RequestReceived,
    ResponseReceived,
    SendQueueDrained,
    SessionEnded,
    SettingsChanged,
    StreamReset,
)
from proxy.http2.flow import ReceiveWindow, moved
from proxy.http2.frames import END_HEADERS, HEADER_SIZE, HEADERS, MAX_STREAM_ID, unpack_header
from proxy.http2.limits import Budget
from proxy.http2.sending import Sender
from proxy.http2.streams import Streams

if TYPE_CHECKING:
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Limits

__all__ = ("BULK", "Connection")

_PEER_STREAMS: Final = 100  # of a peer that announces no limit: the least that RFC 9113 §6.5.2 recommends
BULK: Final = 4096
"""DATA from here on is not copied until its pieces are put together."""
_BULK_WORD: Final = BULK << 8


class Connection:
    """One HTTP/2 connection, seen without its streams.

    `is_over` is true once it must be closed, `is_draining` once either side has said GOAWAY. `peer_streams`
    is how many streams the peer lets us have open."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        self.limits = limits
        self.is_over = False
        self.is_draining = False
        self.peer_streams = 1  # what every peer takes; servers refuse what exceeds a limit not yet announced
        self._streams = Streams(is_client=is_client, spare=limits.spare_window)
        self._control = Budget(limits.control_burst, limits.control_rate)
        self._sender = Sender(self._streams, self._control)
        self._reader = frames.FrameReader(limits.frame_size)
        self._window = ReceiveWindow(frames.DEFAULT_WINDOW)
        self._stream_window = frames.DEFAULT_WINDOW  # until the peer has seen our settings
        self._events: list[Event] = []
        self._opening: RequestReceived | ResponseReceived | None = None  # what the next frame may belong to
        self._now = 0.0
        self._gate: tuple[int, int] | None = (frames.SETTINGS, 0)
        self._missing = 0  # bytes of the DATA frame that was begun

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What `data`, read at the instant `now`, has brought."""
        if self.is_over:
            return []
        self._now = now
        events = self._events = []
        self._opening = None
        try:
            data = self._after_preface(data)
            if self._missing:
                position = self._go_on(data)
            else:
                first, position = self._reader.complete(data)
                if first:
                    self._run(first, 0)
            self._run(data, position)
        except SessionError as error:
            self._end(error)
        self._events = []  # what the events refer to is not to be kept until the next read
        return events

    def receive_view(self, view: memoryview, now: float) -> list[Event]:
        """As `receive`, for a large read: the events of bodies hold parts of `view` itself."""
        if self._gate is not None or (self._reader.held and not self._missing):
            return self.receive(bytes(view), now)
        if self.is_over:
            return []
        self._now = now
        events = self._events = []
        self._opening = None
        try:
            self._run_view(view, self._go_on(view) if self._missing else 0)
        except SessionError as error:
            self._end(error)
        self._events = []  # what the events refer to is not to be kept until the next read
        return events

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

    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: Piece) -> None:
        """Handle a frame that may come; the streams' half takes those of streams."""
        if kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, bytes(payload))
        elif kind == frames.PING:
            self._on_ping(flags, stream_id, bytes(payload))
        elif kind == frames.GOAWAY:
            self._on_goaway(stream_id, bytes(payload))
        elif kind == frames.PUSH_PROMISE:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody enabled", stream_id)
        else:
            self._charge("frames of unknown types")

    @property
    def is_mid_head(self) -> bool:
        """Whether the peer owes the rest of something short: its first SETTINGS, or a header block."""
        return self._gate is not None or (not self._missing and self._reader.begun == frames.HEADERS)

    # ------------------------------------------------------------- overridden
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

    def _on_wasted_stream(self) -> None:
        """A stream was reset without having been answered, or its peer would not believe it."""

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
            self.peer_streams = _PEER_STREAMS

    # ------------------------------------------------------------- handlers
    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream", stream_id)
        if flags & frames.ACK:
            if payload:
                raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            self._charge("acknowledgements of SETTINGS")
            if self._stream_window != self.limits.stream_window:
                self._on_settings_ack()
            return
        self._charge("SETTINGS frames")
        # Each may touch every stream: of ten thousand values in one frame only the last ones count.
        for name, value in dict(frames.parse_settings(payload)).items():
            self._apply(name, value)
        self._sender.out.append(frames.settings_ack())
        self._count_unsent()
        self._events.append(SettingsChanged())

    def _on_settings_ack(self) -> None:
        """Only now does the peer know our initial window."""
        self._stream_window = self.limits.stream_window
        for stream in self._streams.live.values():
            stream.resize(self._stream_window + stream.extra)
            increment = stream.credit(0)  # what was too little to announce may be much of a smaller window
            if increment:
                self._sender.out.append(frames.window_update_frame(stream.id, increment))

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "PING on a stream", stream_id)
        if len(payload) != 8:
            raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes long")
        self._charge("PING frames")
        if flags & frames.ACK:
            self._on_ping_ack(payload)
            return
        self._sender.out.append(frames.ping_frame(payload, ack=True))
        self._count_unsent()

    def _on_ping_ack(self, payload: bytes) -> None:
        self._events.append(PingAcked(payload))

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream", stream_id)
        self._charge("GOAWAY frames")
        last, code, debug = frames.parse_goaway(payload)
        self.is_draining = True
        why = f"not processed: GOAWAY {describe(code)}"
        for refused in self._streams.above(last):
            self._sender.forget(self._streams.live[refused])
            self._streams.drop(refused)
            self._events.append(StreamReset(refused, ErrorCode.REFUSED_STREAM, why, by_peer=True))
        self._events.append(GoawayReceived(last, code, debug))

    # ------------------------------------------------------------- internals
    def _apply(self, name: int, value: int) -> None:
        """One setting of the peer; those that we do not know or need are ignored."""
        if name == frames.SETTING_INITIAL_WINDOW_SIZE:
            delta = value - self._sender.initial_window
            self._sender.initial_window = value
            for stream in self._streams.live.values():
                stream.send_left = moved(stream.send_left, delta, stream.id)
            self._drained(self._sender.windows_opened())
        elif name == frames.SETTING_MAX_FRAME_SIZE:
            self._sender.set_frame_size(value)
        elif name == frames.SETTING_MAX_CONCURRENT_STREAMS:
            self.peer_streams = value

    def _drained(self, stream_ids: list[int]) -> None:
        self._events += [SendQueueDrained(stream_id) for stream_id in stream_ids]

    def _refuse(self, error: StreamError, stream_id: int) -> None:
        stream = self._streams.live.get(stream_id)
        if stream is not None:
            self._sender.forget(stream)
        self._streams.reset(stream_id)
        self._sender.out.append(frames.reset_frame(stream_id, error.code))
        self._events.append(StreamReset(stream_id, error.code, error.why, by_peer=False))
        self._count_unsent()
        self._on_wasted_stream()

    def _charge(self, what: str) -> None:
        if not self._control.take(self._now):
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def _count_unsent(self) -> None:
        self._sender.unsent += 1
        if self._sender.unsent > self.limits.unsent:
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, "replies to control frames are not being read")

    def _end(self, error: SessionError) -> None:
        self.is_over = self.is_draining = True
        self._sender.out.append(
            frames.goaway_frame(self._streams.last_peer_id, error.code, str(error).encode(errors="replace"))
        )
        self._events.append(SessionEnded(error))


def _name(kind: int) -> str:
    return frames.FRAME_NAMES[kind] if kind < len(frames.FRAME_NAMES) else f"frame type {kind}"
