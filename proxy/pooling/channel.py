"""One HTTP/2 connection to a backend, carrying many calls at once.

Owned by a channel pool. `send` writes a call and returns its `Exchange`, whose future gets the `Reply`;
nothing here awaits but a request body that is still arriving, which has its own task, owned by its exchange.
An answer that comes whole in one read is delivered whole; any other at its head, with a `Stream` fed frame by
frame. The exchange is the `Flow` of that stream: while its consumer is slow nothing is credited and the
backend stops.

When the backend says GOAWAY the channel takes no new calls and closes behind its last one; calls that the
backend says it has not looked at end with `StreamRefused`, which their pool may send elsewhere. A call that
is no longer wanted is reset (CANCEL). It ends in `close`, by its own decision or the backend's; the owner
hears `lost` exactly once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import (
    BadReply,
    DeadlineExceeded,
    ProxyError,
    ReadTimeout,
    Reset,
    StreamRefused,
    StreamReset,
)
from proxy.exchange import Call, Reply, Stream
from proxy.http2 import events as h2
from proxy.http2.blocks import timeout_field
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.link import Link
from proxy.http2.session import ClientSession
from proxy.timing import NEVER

if TYPE_CHECKING:
    import asyncio

    from proxy.exchange import Headers
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.headers import ResponseHead
    from proxy.pooling.alarm import Alarm
    from proxy.pooling.policy import TimeoutPolicy
    from proxy.timing import Clock

__all__ = ("Channel", "ChannelOwner", "Exchange")

_LIMITS: Final = Limits(
    frame_size=64 << 10,
    stream_window=256 << 10,
    connection_window=64 << 20,
    control_burst=20_000,
    control_rate=10_000,
)
_HIGH_WATER: Final = 256 << 10
_WRITE_STALL_S: Final = 60.0


class ChannelOwner(Protocol):
    """Whoever keeps channels: what they share, and what they tell it."""

    clock: Clock
    alarm: Alarm
    timeouts: TimeoutPolicy
    writer: BlockWriter
    authority: bytes
    scheme: bytes

    def has_room(self, channel: Channel) -> None:
        """A call is over: the channel may take another, or it has none left."""

    def drains(self, channel: Channel) -> None:
        """The backend takes no new calls on this channel."""

    def lost(self, channel: Channel) -> None:
        """The channel is closed; called once."""


class Exchange:
    """One call on a channel; `reply` gets its answer or a `ProxyError`."""

    __slots__ = (
        "_channel",
        "_chunks",
        "_head",
        "_is_paused",
        "_stream",
        "_uncredited",
        "call",
        "heard_at",
        "reply",
        "stream_id",
        "upload",
    )

    def __init__(self, channel: Channel, call: Call, reply: asyncio.Future[Reply], now: float) -> None:
        self.call = call
        self.reply = reply
        self.stream_id = 0
        self.heard_at = now
        self.upload: asyncio.Task[None] | None = None
        self._channel = channel
        self._head: ResponseHead | None = None
        self._chunks: list[bytes] = []
        self._stream: Stream | None = None
        self._is_paused = False
        self._uncredited = 0

    # ------------------------------------------------------------- the answer comes in
    def begin(self, head: ResponseHead) -> None:
        """The answer's head."""
        self._head = head

    def take(self, data: bytes) -> None:
        """A piece of the answer's body."""
        if self._stream is None:
            self._chunks.append(data)
            self._uncredited += len(data)
        else:
            self._stream.feed(data)
            self._credit(len(data))

    def end(self, trailers: Headers = ()) -> None:
        """The answer is whole."""
        if self._stream is not None:
            self._stream.end(trailers)
            return
        chunks = self._chunks
        self._deliver(chunks[0] if len(chunks) == 1 else b"".join(chunks), trailers)

    def open_stream(self) -> None:
        """The read that brought the head did not bring the end: hand over what there is."""
        if self._stream is not None or self._head is None:
            return
        self._stream = stream = Stream(self, self._head.content_length, high=_HIGH_WATER)
        self._deliver(stream)
        for chunk in self._chunks:
            stream.feed(chunk)
        self._chunks = []
        self._credit(0)

    def fail(self, error: ProxyError) -> None:
        """The answer will never be whole."""
        if self.upload is not None:
            self.upload.cancel()
        if self._stream is not None:
            self._stream.fail(error)
        elif not self.reply.done():
            self.reply.set_exception(error)

    def overdue_at(self, timeouts: TimeoutPolicy) -> float:
        """The instant at which the exchange has lasted too long."""
        deadline = self.call.deadline
        if self._is_paused or self.upload is not None:  # the client is the one to wait for
            return deadline
        patience_s = timeouts.first_byte if self._head is None else timeouts.idle
        return min(deadline, self.heard_at + patience_s)

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
        self._credit(0)

    def abandon(self) -> None:
        """The consumer left: the rest of the answer is worth nothing."""
        self._channel.forsake(self)

    def _credit(self, count: int) -> None:
        self._uncredited += count
        if not self._is_paused:
            channel = self._channel
            channel.session.credit(self.stream_id, self._uncredited)
            self._uncredited = 0
            if channel.session.wants_to_send:
                channel.wake()


class Channel(Link[ClientSession]):
    """See the module's text. `born_at` and `idle_since` are its owner's facts about it."""

    def __init__(self, owner: ChannelOwner) -> None:
        super().__init__(ClientSession(_LIMITS), owner.writer, owner.clock.now, write_stall_s=_WRITE_STALL_S)
        self._owner = owner
        self._alarm = owner.alarm
        self._timeouts = owner.timeouts
        self.exchanges: dict[int, Exchange] = {}
        self.born_at = self.idle_since = owner.clock.now()
        self._is_lost = False

    # ------------------------------------------------------------- for the owner
    @property
    def load(self) -> int:
        """Calls in progress."""
        return len(self.exchanges)

    @property
    def capacity(self) -> int:
        """Calls that may be added."""
        return self.session.capacity if self.is_open else 0

    def send(self, call: Call, now: float) -> Exchange:
        """Write `call`; whoever stops waiting for its exchange says so with `forsake`."""
        exchange = Exchange(self, call, self._loop.create_future(), now)
        block = self._request_block(call, now)
        body = call.body
        is_head = call.method == b"HEAD"
        if isinstance(body, bytes):
            stream_id = self.session.open_whole(block, body, is_head=is_head)
        else:
            stream_id = self.session.open(block, is_head=is_head)
            exchange.upload = self._loop.create_task(self._upload(exchange, stream_id, body))
        exchange.stream_id = stream_id
        self.exchanges[stream_id] = exchange
        self.wake()
        overdue_at = exchange.overdue_at(self._timeouts)
        if overdue_at < self._alarm.armed_for:
            self._alarm.arm(overdue_at)
        return exchange

    def forsake(self, exchange: Exchange) -> None:
        """Nobody wants the answer any more: end the exchange unless it is over already."""
        if self.exchanges.get(exchange.stream_id) is exchange:
            self._end(exchange, Reset("the call was given up"))

    def expire(self, now: float) -> float:
        """End what is overdue; the instant at which something will be due next."""
        due = math.inf
        for exchange in tuple(self.exchanges.values()):
            overdue_at = exchange.overdue_at(self._timeouts)
            if overdue_at > now:
                due = min(due, overdue_at)
            elif now >= exchange.call.deadline:
                self._end(exchange, DeadlineExceeded("the deadline passed while the backend was answering"))
            else:
                self._end(exchange, ReadTimeout("the backend was silent for too long"))
        return due

    def retire(self) -> None:
        """Take no new calls; close behind the last one."""
        self.session.close()
        self.wake()
        self._close_if_done()

    def close(self) -> None:
        """Close now; calls in progress end with `Reset`."""
        self._lose(Reset("the channel was closed"))

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        super().connection_lost(exc)
        self._lose(Reset(f"the backend broke the connection: {exc or 'closed'}"))

    # ------------------------------------------------------------- events
    def _handle(self, events: list[h2.Event]) -> None:
        exchanges, now = self.exchanges, self.now()
        begun: list[Exchange] = []
        for event in events:
            if not isinstance(event, h2.ResponseReceived | h2.DataReceived | h2.TrailersReceived):
                self._handle_rare(event)
                continue
            exchange = exchanges.get(event.stream_id)
            if exchange is None:
                continue
            exchange.heard_at = now
            trailers: Headers = ()
            if isinstance(event, h2.TrailersReceived):
                is_ended, trailers = True, event.headers
            else:
                is_ended = event.is_ended
                if isinstance(event, h2.DataReceived):
                    exchange.take(event.data)
                else:
                    exchange.begin(event.head)
                    begun.append(exchange)
            if is_ended:
                exchange.end(trailers)
                self._conclude(exchange)
        for exchange in begun:
            if self.exchanges.get(exchange.stream_id) is exchange:
                exchange.open_stream()

    def _handle_rare(self, event: h2.Event) -> None:
        match event:
            case h2.SendQueueDrained():
                self._release(event.stream_id)
            case h2.StreamReset():
                self._release(event.stream_id)
                exchange = self.exchanges.get(event.stream_id)
                if exchange is not None:
                    self._end(exchange, _reset_error(event))
            case h2.InterimReceived():
                self._tell_interim(event)
            case h2.SettingsChanged():
                self._owner.has_room(self)
            case h2.GoawayReceived():
                self._owner.drains(self)
                self._close_if_done()
            case h2.SessionEnded():
                self._lose(BadReply(f"the backend broke HTTP/2: {event.error}"))

    def _tell_interim(self, event: h2.InterimReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None:
            exchange.heard_at = self.now()
            if exchange.call.on_informational is not None:
                exchange.call.on_informational(event.head.status, event.head.headers)

    # ------------------------------------------------------------- requests
    def _request_block(self, call: Call, now: float) -> bytes:
        headers = call.headers
        if call.header(b"host") is None:
            headers = ((b"host", self._owner.authority), *headers)
        block = self.writer.request(call.method, self._owner.scheme, call.target, headers)
        if call.deadline == NEVER:
            return block
        return block + timeout_field(call.deadline - now)

    async def _upload(self, exchange: Exchange, stream_id: int, body: Stream) -> None:
        try:
            if not await self.send_body(stream_id, body):
                body.abandon()
        except ProxyError as error:
            self._end(exchange, error)
        else:
            exchange.upload = None
            exchange.heard_at = now = self.now()
            self._alarm.arm(now + self._timeouts.first_byte)

    # ------------------------------------------------------------- ends
    def _conclude(self, exchange: Exchange) -> None:
        """The answer is whole; a request that is still being sent is worth nothing any more."""
        del self.exchanges[exchange.stream_id]
        if exchange.upload is not None:
            exchange.upload.cancel()
        self.session.finish(exchange.stream_id)
        self._after_call()

    def _end(self, exchange: Exchange, error: ProxyError) -> None:
        """The call ends without a whole answer."""
        del self.exchanges[exchange.stream_id]
        exchange.fail(error)
        self.session.reset(exchange.stream_id, ErrorCode.CANCEL)
        self.wake()
        self._after_call()

    def _after_call(self) -> None:
        if not self.exchanges:
            self.idle_since = self.now()
            self._close_if_done()
        self._owner.has_room(self)

    def _close_if_done(self) -> None:
        if self.session.is_draining and not self.exchanges:
            self.hang_up()
            self._lose(Reset("the backend said GOAWAY"))

    def _lose(self, error: ProxyError) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        exchanges, self.exchanges = self.exchanges, {}
        for exchange in exchanges.values():
            exchange.fail(error)
        self.hang_up()
        self._owner.lost(self)


def _reset_error(event: h2.StreamReset) -> ProxyError:
    if not event.by_peer:
        return BadReply(f"the backend broke HTTP/2: {event.why}")
    if event.code == ErrorCode.REFUSED_STREAM:
        return StreamRefused(f"the backend refused the stream: {event.why}")
    return StreamReset(f"the backend reset the stream: {event.why}", event.code)
