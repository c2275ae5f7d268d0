"""A call on an HTTP/2 connection whose body did not come with its head.

A plain one that says it is small is gathered, so that it can be batched and cached. Any other enters the
pipeline at once, with a `Stream` that is fed frame by frame. The call is the `Flow` of that stream: its
reader paces the client through the stream's window, since nothing is credited while the reader is paused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from proxy.errors import BodyTooLarge, ProxyError, RequestTimeout
from proxy.exchange import Stream
from proxy.http2.grpc import MessageMeter
from proxy.ingress.http2_call import ClientCall

if TYPE_CHECKING:
    from proxy.exchange import Headers
    from proxy.http2.events import RequestReceived
    from proxy.http2.frames import Piece
    from proxy.ingress.http2_call import CallLink

__all__ = ("Upload",)

# A plain body of known length that is no larger is handed over whole, so that it can be batched and cached.
_SMALL_BODY: Final = 64 << 10
_HIGH_WATER: Final = 256 << 10


class Upload(ClientCall):
    """See the module's text."""

    __slots__ = ("_chunks", "_heard_at", "_is_ended", "_is_paused", "_meter", "_size", "_uncredited")

    def __init__(self, link: CallLink, request: RequestReceived) -> None:
        super().__init__(link, request)
        self._heard_at = link.now()
        self._is_ended = request.is_ended
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._uncredited = 0
        most = link.listener.rules.limits.message
        self._meter = MessageMeter(most) if most and request.head.is_grpc else None

    def receive(self, pieces: list[Piece], *, is_ended: bool) -> None:
        """What a read brought of the body."""
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        self._size += size
        self._heard_at = self._link.now()
        self._is_ended = is_ended
        limits = self._link.listener.rules.limits
        if not self._request.head.is_grpc and self._size > limits.body:
            self._refuse(BodyTooLarge(f"request body over {limits.body} bytes"))
        elif self._meter is not None and any(map(self._meter.is_over, pieces)):
            self._refuse(BodyTooLarge(f"a message over {limits.message} bytes"))
        elif self._stream is not None:
            self._stream.feed_parts(pieces)
            self._credit(size)
            if is_ended:
                self._stream.end()
        elif not self.is_started:
            self._chunks += map(bytes, pieces)
            if is_ended:
                self.start(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))

    def flush(self) -> None:
        """The read is over."""
        if self._stream is not None:
            self._stream.flush()

    def end(self, trailers: Headers) -> None:
        """The body ended with trailers, which only a stream can carry."""
        self._is_ended = True
        if not self.is_started:
            self._start_streaming()
        if self._stream is not None:
            rules = self._link.listener.rules
            self._stream.end(rules.trailers_of(self._link.hop, trailers))

    def wait_for_more(self) -> None:
        """The read that brought the head brought no end."""
        head = self._request.head
        is_small = head.content_length is not None and head.content_length <= _SMALL_BODY
        if isinstance(self._verdict, ProxyError) or head.expects_continue or not is_small:
            self._start_streaming()

    def _start_streaming(self) -> None:
        stream = Stream(self, self._request.head.content_length, high=_HIGH_WATER)
        stream.account(self._link.listener.ledger)
        chunks, self._chunks = self._chunks, []
        self.start(stream)
        for chunk in chunks:
            stream.feed(chunk)
        self._credit(self._size)

    @property
    def is_patient(self) -> bool:
        """Whether silence means nothing: the client waits for us, or a gRPC stream for something to say."""
        return self._is_ended or self._is_paused or self._request.head.is_grpc

    def expire(self, now: float, stall_s: float) -> float:
        """Give the body up if it has stalled for `stall_s`; else when that will be known, inf for never."""
        if self._is_ended or self._request.head.is_grpc:
            return math.inf
        if self._is_paused:
            self._heard_at = now  # its silence counts from when it is asked to go on
        due = self._heard_at + stall_s
        if now < due:
            return due
        self._is_ended = True
        self._refuse(RequestTimeout("the request body stalled"))
        return math.inf

    def _refuse(self, error: ProxyError) -> None:
        """Whoever reads the body gets the error."""
        if self._stream is None:
            self._start_streaming()
        if self._stream is not None:
            self._is_paused = True
            self._stream.fail(error)

    # ------------------------------------------------------------- Flow of the request body
    def pause(self) -> None:
        """The reader is slow: grant the client no more."""
        self._is_paused = True

    def resume(self) -> None:
        """The reader has caught up."""
        self._is_paused = False
        self._credit(0, has_paused=True)

    def abandon(self) -> None:
        """Nobody reads any more: grant nothing; the answer's end refuses the rest."""
        self._is_paused = True

    def _credit(self, count: int, *, has_paused: bool = False) -> None:
        self._uncredited += count
        if not self._is_paused:
            link = self._link
            link.session.credit(self.stream_id, self._uncredited, has_paused=has_paused)
            self._uncredited = 0
            if link.session.wants_to_send:
                link.wake()
