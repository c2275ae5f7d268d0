"""The connection itself: settings, pings, GOAWAY, and what becomes of errors (RFC 9113 §5.4, §6).

Theory of operation
-------------------
Nothing here waits, knows the time other than from its caller, or raises because of the peer:

* a broken rule that concerns one stream (`StreamError`) becomes RST_STREAM and a `StreamReset` event;
* one that concerns the connection (`SessionError`) becomes GOAWAY and a `SessionEnded` event, after the
  events of the frames before it. From then on nothing is read any more.

Our settings hold for the peer only once it has acknowledged them, the peer's for us as soon as they arrive.
Frames that do no work draw on a budget, and replies to them are counted until they are written: see `limits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.http2 import frames
from proxy.http2.errors import ErrorCode, SessionError, StreamError, describe
from proxy.http2.events import (
    GoawayReceived,
    PingAcked,
    SendQueueDrained,
    SessionEnded,
    SettingsChanged,
    StreamReset,
)
from proxy.http2.flow import ReceiveWindow, moved
from proxy.http2.limits import Budget
from proxy.http2.reading import Reading
from proxy.http2.sending import Sender
from proxy.http2.streams import Streams

if TYPE_CHECKING:
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Limits

__all__ = ("Connection",)

_PEER_STREAMS: Final = 100  # of a peer that announces no limit: the least that RFC 9113 §6.5.2 recommends


class Connection(Reading):
    """One HTTP/2 connection, seen without its streams.

    `is_draining` is true once either side has said GOAWAY. `peer_streams` is how many streams the peer lets
    us have open.
    """

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        super().__init__(limits.frame_size)
        self.limits = limits
        self.is_draining = False
        self.peer_streams = 1  # what every peer takes; servers refuse what exceeds a limit not yet announced
        self._streams = Streams(is_client=is_client, spare=limits.spare_window)
        self._control = Budget(limits.control_burst, limits.control_rate)
        self._sender = Sender(self._streams, self._control)
        self._window = ReceiveWindow(frames.DEFAULT_WINDOW)
        self._stream_window = frames.DEFAULT_WINDOW  # until the peer has seen our settings

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

    def _on_greeting(self) -> None:
        self.peer_streams = _PEER_STREAMS

    # ------------------------------------------------------------- overridden
    def _on_wasted_stream(self) -> None:
        """A stream was reset without having been answered, or its peer would not believe it."""

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
