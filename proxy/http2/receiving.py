"""What the frames of a stream do (RFC 9113 §5.1, §6.2 to §6.4, §6.9, §6.10).

Theory of operation
-------------------
A frame for a live stream is checked against the stream's state and becomes an event. A message's trailers
join the event of its head, as the first piece of its body does (see `bodies`), so that a small message is one
event. A header block for a stream that is not live is stray: after a reset of ours it is what was still on
its way and is ignored, else it ends the connection. Even then it goes through the decoder, since both sides
must keep the same books.

A header block is handled once it is whole. Until then its fragments are bounded in number and in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy.http2 import frames
from proxy.http2.bodies import BodyReceiver, count_content
from proxy.http2.errors import ErrorCode, SessionError, StreamError, describe
from proxy.http2.events import ResponseReceived, StreamReset, TrailersReceived
from proxy.http2.flow import grown
from proxy.http2.limits import HEADER_SLACK, REFUND

if TYPE_CHECKING:
    from proxy.http2.blocks import BlockReader
    from proxy.http2.frames import Piece
    from proxy.http2.limits import Limits
    from proxy.http2.streams import Stream

__all__ = ("Receiver",)

_MAX_FRAGMENTS: Final = 32  # of one header block; encoders cut at 16 KiB


class Receiver(BodyReceiver):
    """The streams' side of reading."""

    def __init__(self, limits: Limits, blocks: BlockReader[Any], *, is_client: bool) -> None:
        super().__init__(limits, is_client=is_client)
        self._blocks = blocks
        self._fragments: list[bytes] = []
        self._fragments_end = False

    def _on_block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """A whole header block arrived."""
        raise NotImplementedError

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
        events = self._events
        last = events[-1] if events else None
        if isinstance(last, ResponseReceived) and last.stream_id == stream.id:
            last.trailers = fields
            last.is_ended = True
        else:
            events.append(TrailersReceived(stream.id, fields))

    # ------------------------------------------------------------- internals
    def _stray_block(self, stream_id: int, block: bytes) -> None:
        """As `_stray`, but the block must be decoded for the dynamic table's sake.

        That costs as much as a call, so it counts as one that was wasted, and pays nothing back.
        """
        self._stray(stream_id, "HEADERS")
        self._control.tokens -= REFUND
        self._charge("HEADERS on streams that were reset")
        self._blocks.skip(block)
        self._on_wasted_stream()
