"""One HTTP/2 connection without I/O (RFC 9113): bytes in, events and bytes out; either side of it.

Theory of operation
-------------------
The owner feeds `receive` with what it read and acts on the events. It answers with `send_headers`,
`send_data`, `send_trailers` and `reset`; whatever is to be written piles up until `data_to_send` hands it
over in one piece, so that any number of answers in one turn of the loop cost one write.

Sending on a stream that the peer has just reset is no error, since the owner cannot know yet: it returns
False and does nothing.

Bodies couple both sides by their windows. Inwards the owner calls `credit` once the consumer has taken bytes;
while it does not, the peer stops after one window. Outwards `queued` says how much waits for the peer's
window; the owner hands over no more until `SendQueueDrained`.

`ServerSession` and `ClientSession` differ in who opens streams and in what a header block means. A server
ends in two steps (RFC 9113 §6.8): GOAWAY with the highest identifier there is, so that requests on their way
are still taken, and the real one when the PING behind it has come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.http2 import frames
from proxy.http2.blocks import BlockReader
from proxy.http2.bodies import count_content
from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.events import InterimReceived, PingAcked, RequestReceived, ResponseReceived
from proxy.http2.frames import END_STREAM, HEADER_SIZE, HEADERS, unpack_header
from proxy.http2.headers import RequestReader, is_unique, parse_response
from proxy.http2.limits import Budget
from proxy.http2.receiving import Receiver
from proxy.http2.streams import Stream

if TYPE_CHECKING:
    from proxy.http2.frames import Piece
    from proxy.http2.headers import RequestOpening, ResponseHead
    from proxy.http2.limits import Limits
    from proxy.http2.streams import State

__all__ = ("ClientSession", "ServerSession", "Session")

_DRAIN_PING: Final = b"draining"
_LAST: Final = frames.END_STREAM | frames.END_HEADERS


class Session(Receiver):
    """What both sides of a connection offer their owner."""

    def data_to_send(self) -> bytes:
        """Everything that is to be written now, in one piece."""
        return b"".join(self._sender.take())

    def pieces_to_send(self) -> list[Piece]:
        """The same in pieces, so that large bodies need not be copied."""
        return self._sender.take()

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self._sender.out)

    @property
    def is_bulky(self) -> bool:
        """Whether large pieces are in it, which may be views."""
        return self._sender.has_bulk

    # ------------------------------------------------------------- sending
    def send_headers(self, stream_id: int, block: bytes, *, end: bool = False) -> bool:
        """The head of an answer (or of an interim one). False: the stream is gone."""
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return False
        self._sender.head(stream, block, end=end)
        return True

    def send_data(self, stream_id: int, data: Piece, *, end: bool = False) -> bool:
        """A piece of a body; what no window lets through is queued. False: the stream is gone.

        A view has to hold until the frames were taken; what is queued of it is copied.
        """
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return False
        self._sender.data(stream, data, end=end)
        return True

    def send_parts(self, stream_id: int, parts: list[Piece], size: int) -> bool:
        """Pieces of a body, `size` bytes together, which may be views as in `send_data`.

        False, and nothing has happened, when the windows do not let all of it through or the stream is gone.
        """
        stream = self._streams.live.get(stream_id)
        return stream is not None and self._sender.parts(stream, parts, size)

    def send_message(self, stream_id: int, block: bytes, data: bytes, trailers: bytes | None = None) -> bool:
        """A whole answer: its head, its body and, unless None, its trailers.

        True when part of it waits for a window; nothing does where the stream is gone.
        """
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return False
        self._sender.message(stream, block, data, trailers)
        return stream.queued > 0

    def send_trailers(self, stream_id: int, block: bytes) -> bool:
        """The fields that end a body; they follow what is queued. False: the stream is gone."""
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return False
        self._sender.trailers(stream, block)
        return True

    def queued(self, stream_id: int) -> int:
        """Bytes of the stream's body that wait for a window.

        `SendQueueDrained` follows when there were any.
        """
        stream = self._streams.live.get(stream_id)
        return 0 if stream is None else stream.queued

    def reset(self, stream_id: int, code: int = ErrorCode.CANCEL) -> bool:
        """End a stream at once; what is queued for it is dropped. False: the stream was gone already."""
        stream = self._streams.live.get(stream_id)
        if stream is None:
            return False
        self._sender.forget(stream)
        self._streams.reset(stream_id)
        self._sender.out.append(frames.reset_frame(stream_id, code))
        return True

    def finish(self, stream_id: int) -> None:
        """The owner is done with a stream.

        Refuse what the peer still sends, or break off what was not sent.
        """
        stream = self._streams.live.get(stream_id)
        if stream is not None:
            self.reset(stream_id, ErrorCode.NO_ERROR if stream.local_closed else ErrorCode.CANCEL)

    def ping(self, payload: bytes) -> None:
        """Ask for a `PingAcked` with these 8 bytes."""
        self._sender.out.append(frames.ping_frame(payload, ack=False))

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, why: str = "") -> None:
        """Say GOAWAY for streams that we have not seen yet; those in progress may go on."""
        self.is_draining = True
        self._sender.out.append(frames.goaway_frame(self._streams.last_peer_id, code, why.encode()))

    # ------------------------------------------------------------- state
    @property
    def active(self) -> int:
        """Live streams."""
        return len(self._streams.live)

    def state(self, stream_id: int) -> State:
        """The state of a stream as RFC 9113 §5.1 names it."""
        return self._streams.state(stream_id)

    def is_live(self, stream_id: int) -> bool:
        """Whether anything can still be sent or received on the stream."""
        return stream_id in self._streams.live

    def _start(self, preface: bytes, settings: tuple[tuple[int, int], ...]) -> None:
        limits, out = self.limits, self._sender.out
        common = (
            (frames.SETTING_INITIAL_WINDOW_SIZE, limits.stream_window),
            (frames.SETTING_MAX_FRAME_SIZE, limits.frame_size),
            (frames.SETTING_MAX_HEADER_LIST_SIZE, limits.header_list),
        )
        out.append(preface + frames.settings_frame(settings + common))
        if limits.connection_window > self._window.size:
            out.append(frames.window_update_frame(0, limits.connection_window - self._window.size))
            self._window.resize(limits.connection_window)


class ServerSession(Session):
    """The side that answers; `takes_streams` until GOAWAY has named the last one."""

    def __init__(self, limits: Limits) -> None:
        blocks = BlockReader(RequestReader(), limits.header_list, is_unique)
        super().__init__(limits, blocks, is_client=False)
        self._preface = frames.PREFACE
        self._resets = Budget(limits.reset_burst, limits.reset_rate)
        self._ended_before = 0
        self.takes_streams = True
        self._start(b"", ((frames.SETTING_MAX_CONCURRENT_STREAMS, limits.streams),))

    def drain(self) -> None:
        """Take no new streams once the peer has had the time to hear of it."""
        self.is_draining = True
        self._sender.out.append(frames.goaway_frame(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
        self.ping(_DRAIN_PING)

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR, why: str = "") -> None:
        """Say GOAWAY; streams that the peer opens from now on are refused."""
        self.takes_streams = False
        super().close(code, why)

    def _after_preface(self, data: bytes) -> bytes:
        missing = self._preface
        if not missing:
            return data
        start = data[: len(missing)]
        if not missing.startswith(start):
            raise SessionError(
                ErrorCode.PROTOCOL_ERROR, "the connection does not start with the HTTP/2 preface"
            )
        self._preface = missing[len(start) :]
        return data[len(start) :]

    def _take_message(self, data: bytes, start: int, end: int, stream_id: int) -> int:
        streams = self._streams
        begin = end + HEADER_SIZE
        length = len(data)
        if begin > length or stream_id <= streams.last_peer_id or stream_id & 1 == 0:
            return 0
        word, flags, of = unpack_header(data, end)
        size = word >> 8
        stop = begin + size
        if (
            flags != END_STREAM
            or word & 0xFF
            or of != stream_id
            or stop > length
            or not 0 < size <= self._window.left
            or size > self._stream_window
            or size > self._reader.max_frame_size
            or not self.takes_streams
            or len(streams.live) >= self.limits.streams
        ):
            return 0
        streams.last_peer_id = stream_id
        opening: RequestOpening = self._blocks.head(data[start:end])
        head, timeout_s, own = opening
        if head.content_length is not None and head.content_length != size:
            self._on_request(stream_id, opening, end=False)
            return end
        self._count_data(size)
        streams.live[stream_id] = stream = Stream(stream_id, self._sender.initial_window, self._stream_window)
        stream.remote_closed = True
        self._events.append(RequestReceived(stream_id, head, timeout_s, own, data[begin:stop], is_ended=True))
        return stop

    def _on_block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        stream = self._streams.live.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, block, end=end)
        elif stream_id & 1 == 0:
            raise SessionError(
                ErrorCode.PROTOCOL_ERROR, "a client's stream has an even identifier", stream_id
            )
        elif stream_id > self._streams.last_peer_id:
            self._streams.last_peer_id = stream_id
            self._on_request(stream_id, self._blocks.head(block), end=end)
        else:
            self._stray_block(stream_id, block)

    def _on_request(self, stream_id: int, opening: RequestOpening, *, end: bool) -> None:
        head, timeout_s, own = opening
        if not self.takes_streams or self.active >= self.limits.streams:
            raise StreamError(ErrorCode.REFUSED_STREAM, "draining, or too many streams at once")
        stream = Stream(stream_id, self._sender.initial_window, self._stream_window)
        if head.content_length is not None:
            stream.content_left = head.content_length
            count_content(stream, 0, is_ended=end)
        stream.remote_closed = end
        self._streams.live[stream_id] = stream
        self._events.append(RequestReceived(stream_id, head, timeout_s, own, is_ended=end))

    def _on_wasted_stream(self) -> None:
        self._resets.tokens += self._streams.ended - self._ended_before
        self._ended_before = self._streams.ended
        if not self._resets.take(self._now):
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams end without their answer")

    def _on_ping_ack(self, payload: bytes) -> None:
        if payload == _DRAIN_PING and self.is_draining and self.takes_streams:
            self.close()
        self._events.append(PingAcked(payload))


class ClientSession(Session):
    """The side that asks."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, BlockReader(parse_response, limits.header_list), is_client=True)
        self._start(frames.PREFACE, ((frames.SETTING_ENABLE_PUSH, 0),))

    @property
    def capacity(self) -> int:
        """Streams that may be opened now."""
        if self.is_draining or self._streams.next_own_id > frames.MAX_STREAM_ID:
            return 0
        return max(self.peer_streams - self.active, 0)

    def open(self, block: bytes, *, end: bool = False, is_head: bool = False) -> int:
        """Send a request's head; returns the new stream. There must be `capacity`."""
        stream = self._new_stream(is_head=is_head)
        self._sender.head(stream, block, end=end)
        return stream.id

    def open_whole(self, block: bytes, data: bytes, *, is_head: bool = False) -> int:
        """Send a whole request; returns the new stream. There must be `capacity`."""
        stream = self._new_stream(is_head=is_head)
        self._sender.message(stream, block, data, None)
        return stream.id

    def _new_stream(self, *, is_head: bool) -> Stream:
        stream_id = self._streams.next_own_id
        self._streams.next_own_id += 2
        stream = Stream(stream_id, self._sender.initial_window, self._stream_window)
        stream.is_head_request = is_head
        self._streams.live[stream_id] = stream
        return stream

    def _take_message(self, data: bytes, start: int, end: int, stream_id: int) -> int:
        stream = self._streams.live.get(stream_id)
        begin = end + HEADER_SIZE
        length = len(data)
        if stream is None or stream.has_head or stream.is_head_request or begin > length:
            return 0
        word, flags, of = unpack_header(data, end)
        size = word >> 8
        stop = begin + size
        last = stop + HEADER_SIZE
        if (
            flags
            or word & 0xFF
            or of != stream_id
            or last > length
            or not 0 < size <= self._window.left
            or size > stream.left
            or size > self._reader.max_frame_size
        ):
            return 0
        word, flags, of = unpack_header(data, stop)
        tail = last + (word >> 8)
        if flags != _LAST or word & 0xFF != HEADERS or of != stream_id or tail > length:
            return 0
        head = self._blocks.head(data[start:end])
        if not _is_plain(head):
            self._on_response(stream, head, end=False)
            return end
        self._count_data(size)
        try:
            fields = self._blocks.trailers(data[last:tail])
        except StreamError as error:
            self._refuse(error, stream_id)
            return tail
        self._streams.close_remote(stream)
        self._events.append(ResponseReceived(stream_id, head, data[begin:stop], fields, is_ended=True))
        return tail

    def _on_block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        stream = self._streams.live.get(stream_id)
        if stream is None:
            self._stray_block(stream_id, block)
        elif stream.has_head:
            self._on_trailers(stream, block, end=end)
        else:
            self._on_response(stream, self._blocks.head(block), end=end)

    def _on_response(self, stream: Stream, head: ResponseHead, *, end: bool) -> None:
        if head.status < 200:
            if end:
                raise StreamError(ErrorCode.PROTOCOL_ERROR, "an interim answer ends the stream")
            self._charge("interim answers")
            self._events.append(InterimReceived(stream.id, head))
            return
        stream.has_head = True
        if stream.is_head_request or head.status in {204, 304}:
            stream.content_left = 0
        elif head.content_length is not None:
            stream.content_left = head.content_length
        count_content(stream, 0, is_ended=end)
        self._events.append(ResponseReceived(stream.id, head, is_ended=end))
        if end:
            self._streams.close_remote(stream)

    def _apply(self, name: int, value: int) -> None:
        if name == frames.SETTING_ENABLE_PUSH and value:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, "a server enables push")
        super()._apply(name, value)


def _is_plain(head: ResponseHead) -> bool:
    """Whether an answer is one that any body may follow."""
    return head.status >= 200 and head.content_length is None and head.status not in {204, 304}
