"""One call on a channel: gathers its answer, or hands it on as a stream.

Owned by its channel. An answer that comes whole in one read is delivered whole; any other at its head, with a
`Stream` fed frame by frame. The call is the `Flow` of that stream: while its consumer is slow nothing is
credited and the backend stops. It waits for nothing by itself: whoever exchanges the call awaits `reply`, or
is told by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from proxy.exchange import Reply, Stream
from proxy.http2.events import DataReceived, ResponseReceived, TrailersReceived

if TYPE_CHECKING:
    import asyncio

    from proxy.errors import ProxyError
    from proxy.exchange import Call, Headers
    from proxy.http2.events import MessagePart
    from proxy.http2.headers import ResponseHead
    from proxy.pooling.policy import TimeoutPolicy

__all__ = ("Answer", "CallOwner", "ChannelCall")

_HIGH_WATER: Final = 256 << 10
_STEP: Final = 32 << 10  # bytes that are given back at once: a fraction of the window


class Answer(Protocol):
    """Where an outcome goes: a future, or whoever takes it at once."""

    def done(self) -> bool:
        """Whether nobody waits for it (any more)."""

    def set_result(self, reply: Reply, /) -> None:
        """The answer, or its head."""

    def set_exception(self, error: ProxyError, /) -> None:
        """There is no answer."""


class CallOwner(Protocol):
    """What a call needs of its channel."""

    def now(self) -> float:
        """Seconds on the clock."""

    def credit(self, stream_id: int, count: int, *, has_paused: bool) -> None:
        """`count` bytes of the answer were consumed, with a pause before it or without."""

    def forsake(self, exchange: ChannelCall) -> None:
        """Nobody wants the answer any more."""


class ChannelCall:
    """See the module's text; `reply` gets the answer or a `ProxyError`, `upload` sends a streamed request.

    `sent_at` and `heard_at` are instants; `company` is how many calls were in flight with it when it
    was sent, where that is limited.
    """

    __slots__ = (
        "_channel",
        "_chunks",
        "_head",
        "_is_paused",
        "_stream",
        "_uncredited",
        "call",
        "company",
        "heard_at",
        "reply",
        "sent_at",
        "stream_id",
        "upload",
    )

    def __init__(self, channel: CallOwner, call: Call, reply: Answer, now: float) -> None:
        self.call = call
        self.reply = reply
        self.stream_id = self.company = 0
        self.sent_at = self.heard_at = now
        self.upload: asyncio.Task[None] | None = None
        self._channel = channel
        self._head: ResponseHead | None = None
        self._chunks: list[bytes] = []
        self._stream: Stream | None = None
        self._is_paused = False
        self._uncredited = 0

    # ------------------------------------------------------------- the answer comes in
    def receive(self, part: MessagePart, now: float) -> bool:
        """A part of the answer; True when it was the last."""
        trailers: Headers = ()
        is_ended = True
        if isinstance(part, ResponseReceived):
            self._head = part.head
            is_ended, trailers = part.is_ended, part.trailers
            if is_ended:
                self._deliver(part.data, trailers)
                return True
            if part.data:
                self._chunks.append(part.data)
        elif isinstance(part, DataReceived):
            self._take_data(part)
            is_ended = part.is_ended
        elif isinstance(part, TrailersReceived):
            trailers = part.headers
        if not is_ended:
            self.heard_at = now
        elif self._stream is not None:
            self._stream.end(trailers)
        else:
            chunks = self._chunks
            self._deliver(chunks[0] if len(chunks) == 1 else b"".join(chunks), trailers)
        return is_ended

    def open_stream(self) -> None:
        """The read that brought the head did not bring the end: hand over what there is."""
        if self._stream is not None or self._head is None:
            return
        self._stream = stream = Stream(self, self._head.content_length, high=_HIGH_WATER)
        self._deliver(stream)
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            stream.feed(chunk)
            self._credit(len(chunk))

    def flush(self) -> None:
        """The read that brought parts of the answer is over."""
        if self._stream is not None:
            self._stream.flush()

    def fail(self, error: ProxyError) -> None:
        """The answer will never be whole."""
        if self.upload is not None:
            self.upload.cancel()
        if self._stream is not None:
            self._stream.fail(error)
        elif not self.reply.done():
            self.reply.set_exception(error)

    def overdue_at(self, timeouts: TimeoutPolicy) -> float:
        """The instant at which the call has lasted too long."""
        deadline = self.call.deadline
        if self._is_paused or self.upload is not None:  # the client is the one to wait for
            return deadline
        patience_s = timeouts.first_byte if self._head is None else timeouts.idle
        return min(deadline, self.heard_at + patience_s)

    def _take_data(self, part: DataReceived) -> None:
        if self._stream is None:
            self._chunks.append(part.data)
        else:
            self._stream.feed_parts(part.pieces)
            self._credit(part.size)

    def _deliver(self, body: bytes | Stream, trailers: Headers = ()) -> None:
        head = self._head
        if head is None or self.reply.done():
            return
        reply = Reply(head.status, head.headers, body, declared_length=head.content_length)
        reply.trailers = trailers
        self.reply.set_result(reply)

    # ------------------------------------------------------------- Flow of the answer's stream
    def pause(self) -> None:
        """The consumer is slow: grant the backend no more."""
        self._is_paused = True

    def resume(self) -> None:
        """The consumer has caught up; the backend's silence counts from now."""
        self._is_paused = False
        self.heard_at = self._channel.now()
        self._give_back(has_paused=True)

    def abandon(self) -> None:
        """The consumer left: the rest of the answer is worth nothing."""
        self._channel.forsake(self)

    def _credit(self, count: int) -> None:
        self._uncredited += count
        if self._uncredited >= _STEP and not self._is_paused:
            self._give_back(has_paused=False)

    def _give_back(self, *, has_paused: bool) -> None:
        count, self._uncredited = self._uncredited, 0
        self._channel.credit(self.stream_id, count, has_paused=has_paused)
