"""One HTTP/2 connection to a backend, carrying many calls at once.

Owned by a channel pool. `send` writes a call and returns its `ChannelCall`, whose `answer` gets the `Reply`;
nothing here awaits but a request body that is still arriving, which has its own task, owned by its exchange.
An answer that comes whole in one read is delivered whole; any other at its head, with a `Stream` fed frame by
frame. The exchange is the `Flow` of that stream: while its consumer is slow nothing is credited and the
backend stops.

When the backend says GOAWAY the channel takes no new calls and closes behind its last one; calls that the
backend says it has not looked at end with `StreamRefused`, which their pool may send elsewhere. A call that
is no longer wanted is reset (CANCEL). A backend that is silent while calls are in progress is asked for a
sign of life (see `pulse`). It ends in `close`, by its own decision or the backend's; the owner hears `lost`
exactly once.
"""

from __future__ import annotations

import math
import select
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
from proxy.http2 import events as h2
from proxy.http2.blocks import timeout_field
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.link import Link
from proxy.http2.pulse import Pulse
from proxy.http2.session import ClientSession
from proxy.pooling.channel_call import ChannelCall
from proxy.timing import NEVER

if TYPE_CHECKING:
    import asyncio

    from proxy.exchange import Call, Stream
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.intake import ReadBuffer
    from proxy.pooling.alarm import Alarm
    from proxy.pooling.channel_call import Answer
    from proxy.pooling.policy import TimeoutPolicy
    from proxy.timing import Clock

__all__ = ("Channel", "ChannelOwner")

_LIMITS: Final = Limits(
    frame_size=64 << 10,
    stream_window=256 << 10,
    widest_window=2 << 20,
    spare_window=16 << 20,
    connection_window=64 << 20,
    control_burst=20_000,
    control_rate=10_000,
)
_WRITE_STALL_S: Final = 60.0
_HANG_UP: Final = getattr(select, "POLLRDHUP", 0)  # the kernel adds POLLHUP and POLLERR by itself


class ChannelOwner(Protocol):
    """Whoever keeps channels: what they share, and what they tell it."""

    clock: Clock
    alarm: Alarm
    timeouts: TimeoutPolicy
    writer: BlockWriter
    buffer: ReadBuffer
    authority: bytes
    scheme: bytes
    ping_s: float

    def has_room(self, channel: Channel) -> None:
        """A call is over: the channel may take another, or it has none left."""

    def drains(self, channel: Channel) -> None:
        """The backend takes no new calls on this channel."""

    def lost(self, channel: Channel, /) -> None:
        """The channel is closed; called once."""


class Channel(Link[ClientSession]):
    """See the module's text.

    `load` counts calls in progress, `uses` all there ever were; `born_at` and `idle_since` are instants.
    `address` is what was dialed.
    """

    def __init__(self, owner: ChannelOwner) -> None:
        super().__init__(
            ClientSession(_LIMITS),
            owner.writer,
            owner.clock.now,
            buffer=owner.buffer,
            write_stall_s=_WRITE_STALL_S,
        )
        self._owner = owner
        self._alarm = owner.alarm
        self._timeouts = owner.timeouts
        self.address = ""
        self.exchanges: dict[int, ChannelCall] = {}
        self.load = self.uses = 0
        self.born_at = self.idle_since = owner.clock.now()
        self._pulse = Pulse(owner.ping_s)
        self._ping_s = owner.ping_s or math.inf
        self._patience_s = min(self._timeouts.first_byte, self._ping_s)
        self._is_lost = False
        self._poll = select.poll()

    # ------------------------------------------------------------- for the owner
    @property
    def capacity(self) -> int:
        """Calls that may be added."""
        return self.session.capacity if self.is_open else 0

    def is_hung_up(self) -> bool:
        """True when the kernel knows that the backend has closed; 0.3 us."""
        return bool(self._poll.poll(0))

    def send(self, call: Call, now: float, answer: Answer) -> ChannelCall:
        """Write `call`; whoever waits for the `answer` no longer says so with `forsake`."""
        exchange = ChannelCall(self, call, answer, now)
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
        if not self.load:
            self.heard_at = now  # the silence of an idle backend means nothing
            self.flush()
        elif not self.is_writing:
            self.wake()
        self.load += 1
        self.uses += 1
        armed_for = self._alarm.armed_for
        if now + self._patience_s < armed_for or call.deadline < armed_for:
            self._alarm.arm(min(exchange.overdue_at(self._timeouts), now + self._ping_s))
        return exchange

    def credit(self, stream_id: int, count: int, *, has_paused: bool) -> None:
        """`count` bytes of an answer were consumed."""
        self.session.credit(stream_id, count, has_paused=has_paused)
        if self.session.wants_to_send:
            self.wake()

    def forsake(self, exchange: ChannelCall) -> None:
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
        if not self.exchanges:
            return due
        look_at = self.feel(self._pulse)
        if look_at is None:
            self.abort()
            self._lose(Reset("the backend gives no sign of life"))
            return math.inf
        return min(due, look_at)

    def retire(self) -> None:
        """Take no new calls; close behind the last one."""
        self.session.close()
        self.wake()
        self._close_if_done()

    def close(self) -> None:
        """Close now; calls in progress end with `Reset`."""
        self._lose(Reset("the channel was closed"))

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dial succeeded: say our settings."""
        self._poll.register(transport.get_extra_info("socket").fileno(), _HANG_UP)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        super().connection_lost(exc)
        self._lose(Reset(f"the backend broke the connection: {exc or 'closed'}"))

    # ------------------------------------------------------------- events
    def _handle(self, events: list[h2.Event]) -> None:
        now = self.now()
        begun: list[ChannelCall] = []
        fed: list[ChannelCall] = []
        for event in events:
            if not isinstance(event, h2.MessagePart):
                self._handle_rare(event)
                continue
            exchange = self.exchanges.get(event.stream_id)
            if exchange is None:
                continue
            if exchange.receive(event, now):
                self._conclude(exchange)
            elif isinstance(event, h2.ResponseReceived):
                begun.append(exchange)
            else:
                fed.append(exchange)
        for exchange in begun:
            if not exchange.reply.done():
                exchange.open_stream()
        for exchange in fed:
            exchange.flush()

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
        headers = call.shared
        if not headers or (headers[0][0] != b"host" and call.header(b"host") is None):
            headers = ((b"host", self._owner.authority), *headers)
        block = self.writer.request(call.method, self._owner.scheme, call.target, headers, call.own)
        if call.deadline == NEVER:
            return block
        return block + timeout_field(call.deadline - now)

    async def _upload(self, exchange: ChannelCall, stream_id: int, body: Stream) -> None:
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
    def _conclude(self, exchange: ChannelCall) -> None:
        """The answer is whole; a request that is still being sent is worth nothing any more."""
        if exchange.upload is not None:
            exchange.upload.cancel()
            self.session.finish(exchange.stream_id)
        self._forget(exchange)

    def _end(self, exchange: ChannelCall, error: ProxyError) -> None:
        """The call ends without a whole answer."""
        exchange.fail(error)
        self.session.reset(exchange.stream_id, ErrorCode.CANCEL)
        self.wake()
        self._forget(exchange)

    def _forget(self, exchange: ChannelCall) -> None:
        del self.exchanges[exchange.stream_id]
        self.load -= 1
        if not self.load:
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
        self.load = 0
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
