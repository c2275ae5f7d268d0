"""What the frames of a stream do (RFC 9113 §5.1, §6.1 to §6.4, §6.9, §6.10).

Theory of operation
-------------------
A frame for a live stream is checked against the stream's state, counted against its windows and its declared
length, and becomes an event. A message's first piece of body and its trailers join the event of its head when
nothing of another stream came between them in the read, so that a small message is one event; so do frames of
body that follow each other. A frame for any other stream is stray: after a reset of ours it is what was still
on its way and is ignored, else it ends the connection. Even then its DATA counts for the connection's window
and its header block goes through the decoder, since both sides must keep the same books.

The connection's window is given back as DATA arrives, so that one slow stream cannot hold up the others; a
stream's own is given back by the owner, when its consumer has taken the bytes. What one connection can make
us hold is thus `Limits.streams` times `Limits.stream_window`, and `Limits.spare_window`: by as much the
windows of streams grow whose consumers keep up, which spares both sides most of the updates.

A header block is handled once it is whole. Until then its fragments are bounded in number and in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy.http2 import frames
from proxy.http2.connection import Connection
from proxy.http2.errors import ErrorCode, SessionError, StreamError, describe
from proxy.http2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived
from proxy.http2.flow import grown, overrun
from proxy.http2.frames import HEADER_SIZE, unpack_header
from proxy.http2.limits import HEADER_SLACK, REFUND
from proxy.http2.reading import BULK

if TYPE_CHECKING:
    from proxy.http2.blocks import BlockReader
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Limits
    from proxy.http2.streams import Stream

__all__ = ("Receiver", "count_content")

_MAX_FRAGMENTS: Final = 32  # of one header block; encoders cut at 16 KiB


class Receiver(Connection):
    """The streams' side of reading."""

    def __init__(self, limits: Limits, blocks: BlockReader[Any], *, is_client: bool) -> None:
        super().__init__(limits, is_client=is_client)
        self._blocks = blocks
        self._fragments: list[bytes] = []
        self._fragments_end = False
        self._begun = 0  # the stream whose DATA frame comes in parts
        self._begun_ends = False

    def _on_block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """A whole header block arrived."""
        raise NotImplementedError

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
    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: Piece) -> None:
        if kind == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream_id, bytes(payload))
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, bytes(payload))
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream_id, bytes(payload))
        elif kind == frames.RST_STREAM:
            self._on_reset(stream_id, bytes(payload))
        elif kind == frames.PRIORITY:
            self._on_priority(stream_id, bytes(payload))
        else:
            super()._dispatch(kind, flags, stream_id, payload)

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
        opening = self._opening
        if opening is not None and opening.stream_id == stream_id and not opening.data:
            opening.data = b"".join(parts)
            opening.is_ended = is_ended
            return
        self._opening = None
        events = self._events
        last = events[-1] if events else None
        if isinstance(last, DataReceived) and last.stream_id == stream_id:
            last.pieces += parts
            last.is_ended = is_ended
        else:
            events.append(DataReceived(stream_id, parts, is_ended=is_ended))

    def _without_padding(self, flags: int, stream_id: int, payload: Piece) -> Piece:
        """The data of a padded frame; its padding is consumed at once."""
        data = frames.strip_padding(flags, stream_id, bytes(payload))
        self.credit(stream_id, len(payload) - len(data))
        return data

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.PRIORITY_FLAG):
            payload = frames.strip_padding(flags, stream_id, payload)
            payload = frames.strip_priority(flags, stream_id, payload)
        if stream_id == 0:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        end = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._control.tokens += REFUND
            self._on_block(stream_id, payload, end=end)
            return
        self._gate = (frames.CONTINUATION, stream_id)
        self._fragments_end = end
        self._add_fragment(payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._gate is None:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS", stream_id)
        self._add_fragment(payload)
        if flags & frames.END_HEADERS:
            self._gate = None
            block = b"".join(self._fragments)
            self._fragments.clear()
            self._on_block(stream_id, block, end=self._fragments_end)

    def _add_fragment(self, payload: bytes) -> None:
        """A header block is bounded before it is decoded, and in its number of fragments."""
        if not payload:
            self._charge("empty header fragments")
        self._fragments.append(payload)
        most = HEADER_SLACK * self.limits.header_list
        if len(self._fragments) > _MAX_FRAGMENTS or sum(map(len, self._fragments)) > most:
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, "header block is too large or too finely cut")

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._charge("PRIORITY frames")
        if len(payload) != 5:
            error = SessionError if self._streams.is_idle(stream_id) else StreamError
            raise error(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes long", stream_id)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        code = frames.parse_reset(stream_id, payload)
        stream = self._streams.live.get(stream_id)
        if stream is None:
            if self._streams.is_idle(stream_id) or stream_id == 0:
                raise SessionError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream", stream_id)
            self._charge("RST_STREAM on closed streams")
            return
        self._sender.forget(stream)
        self._streams.drop(stream_id)
        self._events.append(
            StreamReset(stream_id, code, f"reset by the peer: {describe(code)}", by_peer=True)
        )
        self._on_wasted_stream()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        self._charge("WINDOW_UPDATE frames")
        if stream_id and self._streams.is_idle(stream_id):
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream", stream_id)
        increment = frames.parse_window_update(stream_id, payload)
        if stream_id == 0:
            self._sender.window_left = grown(self._sender.window_left, increment, 0)
            self._drained(self._sender.windows_opened())
            return
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return
        stream.send_left = grown(stream.send_left, increment, stream_id)
        if self._sender.window_opened(stream):
            self._drained([stream_id])

    def _on_trailers(self, stream: Stream, block: bytes, *, end: bool) -> None:
        if stream.remote_closed:
            self._blocks.skip(block)
            raise StreamError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        fields = self._blocks.trailers(block)
        if not end:
            raise StreamError(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        count_content(stream, 0, is_ended=True)
        self._streams.close_remote(stream)
        opening = self._opening
        if isinstance(opening, ResponseReceived) and opening.stream_id == stream.id:
            opening.trailers = fields
            opening.is_ended = True
            return
        self._events.append(TrailersReceived(stream.id, fields))

    # ------------------------------------------------------------- internals
    def _stray(self, stream_id: int, name: str) -> None:
        """A frame for a stream that is not live.

        Ignored after a reset of ours, else an error (RFC 9113 §5.1).
        """
        if self._streams.was_reset(stream_id):
            return
        if self._streams.has_ended(stream_id):
            raise SessionError(ErrorCode.STREAM_CLOSED, f"{name} on a closed stream", stream_id)
        raise SessionError(ErrorCode.PROTOCOL_ERROR, f"{name} on a stream that is not open", stream_id)

    def _stray_block(self, stream_id: int, block: bytes) -> None:
        """As `_stray`, but the block must be decoded for the dynamic table's sake.

        That costs as much as a call, so it counts as one that was wasted, and pays nothing back.
        """
        self._stray(stream_id, "HEADERS")
        self._control.tokens -= REFUND
        self._charge("HEADERS on streams that were reset")
        self._blocks.skip(block)
        self._on_wasted_stream()


def count_content(stream: Stream, count: int, *, is_ended: bool) -> None:
    """Hold the body against its content-length (RFC 9113 §8.1.1)."""
    left = stream.content_left - count
    if stream.content_left < 0:
        return
    if left < 0 or (is_ended and left):
        raise StreamError(ErrorCode.PROTOCOL_ERROR, "the body is not as long as content-length says")
    stream.content_left = left
