"""What DATA does (RFC 9113 §5.2, §6.1, §6.9).

Theory of operation
-------------------
A DATA frame for a live stream is checked against the stream's state, counted against its windows and its
declared length, and becomes an event; frames of body that follow each other become one. The first piece of a
body joins the event of its head when that is the last event of the read. DATA for any other stream is stray:
after a reset of ours it is what was still on its way and is ignored, else it ends the connection. Even then
it counts for the connection's window, since both sides must keep the same books.

The connection's window is given back as DATA arrives, so that one slow stream cannot hold up the others; a
stream's own is given back by the owner, when its consumer has taken the bytes. What one connection can make
us hold is thus `Limits.streams` times `Limits.stream_window`, and `Limits.spare_window`: by as much the
windows of streams grow whose consumers keep up, which spares both sides most of the updates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http2 import frames
from proxy.http2.connection import Connection
from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.events import DataReceived, RequestReceived, ResponseReceived
from proxy.http2.flow import overrun
from proxy.http2.frames import HEADER_SIZE, unpack_header
from proxy.http2.limits import REFUND
from proxy.http2.reading import BULK

if TYPE_CHECKING:
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Limits
    from proxy.http2.streams import Stream

__all__ = ("BodyReceiver", "count_content")


class BodyReceiver(Connection):
    """The bodies of the connection's streams."""

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        super().__init__(limits, is_client=is_client)
        self._begun = 0  # the stream whose DATA frame comes in parts
        self._begun_ends = False

    def credit(self, stream_id: int, count: int, *, has_paused: bool = True) -> None:
        """`count` bytes of the stream's DATA were consumed: the peer may send as many again.

        And more than that, to a bound, where the consumer has not paused since the last time.
        """
        stream = self._streams.live.get(stream_id)
        if stream is None or stream.remote_closed:
            return
        increment = stream.credit(count)
        if increment:
            if not has_paused:
                increment += self._streams.widen(stream, self.limits.widest_window)
            self._sender.out.append(frames.window_update_frame(stream_id, increment))

    def _count_data(self, size: int) -> None:
        """A message with `size` bytes of body was taken, which both windows allowed."""
        window = self._window
        window.left -= size
        owed = window.owed + size
        if owed * 2 < window.size:
            window.owed = owed
        else:
            self._sender.out.append(frames.window_update_frame(0, window.credit(size)))
        self._control.tokens += 2 * REFUND

    # ------------------------------------------------------------- handlers
    def _on_data(self, flags: int, stream_id: int, payload: Piece) -> None:
        stream = self._count_frame(stream_id, len(payload))
        if stream is None:
            return
        is_ended = flags & frames.END_STREAM != 0
        if flags & frames.PADDED:
            payload = self._without_padding(flags, stream_id, payload)
        if not payload and not is_ended:
            self._charge("empty DATA frames")
            return
        self._control.tokens += REFUND
        if stream.content_left >= 0:
            count_content(stream, len(payload), is_ended=is_ended)
        if is_ended:
            self._streams.close_remote(stream)
        self._add_parts(stream_id, [payload], is_ended=is_ended)

    def _take_run(self, view: memoryview, position: int) -> int:
        word, flags, stream_id = unpack_header(view, position)
        stream = self._streams.live.get(stream_id)
        if stream is None or stream.remote_closed or stream.content_left >= 0 or self._gate is not None:
            return position
        size, most = len(view), self._reader.max_frame_size
        left = min(self._window.left, stream.left)
        parts: list[Piece] = []
        total, of = 0, stream_id
        while word & 0xFF == frames.DATA and flags == 0 and of == stream_id:
            start = position + HEADER_SIZE
            length = word >> 8
            end = start + length
            if end > size or not 0 < length <= most or total + length > left:
                break
            parts.append(view[start:end])
            total += length
            position = end
            if position + HEADER_SIZE > size:
                break
            word, flags, of = unpack_header(view, position)
        if parts:
            self._count_frame(stream_id, total)
            self._control.tokens += REFUND * len(parts)
            self._add_parts(stream_id, parts if total >= BULK else [b"".join(parts)], is_ended=False)
        return position

    def _begin_data(self, flags: int, stream_id: int, size: int, part: Piece) -> None:
        self._begun = stream_id
        self._begun_ends = is_ended = flags & frames.END_STREAM != 0
        stream = self._count_frame(stream_id, size)
        if stream is not None:
            self._control.tokens += REFUND
            count_content(stream, size, is_ended=is_ended)
            self._add_parts(stream_id, [part], is_ended=False)

    def _go_on_data(self, part: Piece) -> None:
        stream = self._streams.live.get(self._begun)
        if stream is None:
            return  # reset meanwhile, and its frame is counted
        is_ended = self._begun_ends and not self._missing
        if is_ended:
            self._streams.close_remote(stream)
        self._add_parts(stream.id, [part], is_ended=is_ended)

    def _count_frame(self, stream_id: int, size: int) -> Stream | None:
        """Book a DATA frame on both windows; None when there is nobody to have it."""
        window = self._window
        window.left -= size
        if window.left < 0:
            raise overrun(window.left, 0)
        increment = window.credit(size)
        if increment:
            self._sender.out.append(frames.window_update_frame(0, increment))
        stream = self._streams.live.get(stream_id)
        if stream is None:
            self._stray(stream_id, "DATA")
            return None
        if stream.remote_closed:
            raise StreamError(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.left -= size
        if stream.left < 0:
            raise overrun(stream.left, stream_id)
        return stream

    def _add_parts(self, stream_id: int, parts: list[Piece], *, is_ended: bool) -> None:
        events = self._events
        last = events[-1] if events else None
        if isinstance(last, DataReceived) and last.stream_id == stream_id:
            last.pieces += parts
            last.is_ended = is_ended
        elif (
            isinstance(last, (RequestReceived, ResponseReceived))
            and last.stream_id == stream_id
            and not last.data
        ):
            last.data = b"".join(parts)
            last.is_ended = is_ended
        else:
            events.append(DataReceived(stream_id, parts, is_ended=is_ended))

    def _without_padding(self, flags: int, stream_id: int, payload: Piece) -> Piece:
        """The data of a padded frame; its padding is consumed at once."""
        data = frames.strip_padding(flags, stream_id, bytes(payload))
        self.credit(stream_id, len(payload) - len(data))
        return data

    def _stray(self, stream_id: int, name: str) -> None:
        """A frame for a stream that is not live.

        Ignored after a reset of ours, else an error (RFC 9113 §5.1).
        """
        if self._streams.was_reset(stream_id):
            return
        if self._streams.has_ended(stream_id):
            raise SessionError(ErrorCode.STREAM_CLOSED, f"{name} on a closed stream", stream_id)
        raise SessionError(ErrorCode.PROTOCOL_ERROR, f"{name} on a stream that is not open", stream_id)


def count_content(stream: Stream, count: int, *, is_ended: bool) -> None:
    """Hold the body against its content-length (RFC 9113 §8.1.1)."""
    left = stream.content_left - count
    if stream.content_left < 0:
        return
    if left < 0 or (is_ended and left):
        raise StreamError(ErrorCode.PROTOCOL_ERROR, "the body is not as long as content-length says")
    stream.content_left = left
