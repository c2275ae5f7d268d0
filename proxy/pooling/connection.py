"""One HTTP/1.1 connection to a backend: an asyncio protocol that carries one exchange at a time.

Owned by a pool. `send` writes a call and returns the future of its `Reply`; nothing here awaits, so the hot
path costs one write, one future and one read. A small answer is delivered whole; any other at its head, with
a `Stream` whose flow pauses this transport. When answer and upload are both over, the connection tells its
owner that it is free, provided that the exchange was clean: whole answer, nothing after it, ``keep-alive``,
request fully sent. Everything else closes it. While idle it keeps reading, so that a backend's FIN, reset
or unasked bytes end it instead of becoming the next caller's answer.

It ends in `close`, by its own decision or the backend's; the owner hears `lost` exactly once.
"""

from __future__ import annotations

import asyncio
import math
import select
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from proxy.errors import BadReply, DeadlineExceeded, ProxyError, ReadTimeout, Reset
from proxy.exchange import Body, Call, Reply, Stream
from proxy.kernel_buffers import bound_receiving
from proxy.pooling.reply_reader import ReplyReader
from proxy.pooling.tunnel import Tunnel
from proxy.pooling.upload import Upload
from proxy.pooling.wire import request_head

if TYPE_CHECKING:
    from proxy.pooling.alarm import Alarm
    from proxy.pooling.policy import TimeoutPolicy
    from proxy.pooling.reply_reader import HeadTable
    from proxy.timing import Clock

__all__ = ("Connection", "Ended", "Owner")

Ended = Literal["", "local", "fin", "unsolicited", "error"]
"""Who ended a connection: this side, the backend's FIN or unasked bytes while idle, or a failed exchange."""

_SMALL_BODY: Final = 64 * 1024
_SMALL_READS: Final = 4  # a small body that needs more reads than this is trickling: stream it
_HANG_UP: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class Owner(Protocol):
    """Whoever keeps connections: what they share, and what they tell it."""

    clock: Clock
    alarm: Alarm
    heads: HeadTable
    timeouts: TimeoutPolicy
    authority: bytes

    def released(self, connection: Connection) -> None:
        """The exchange is over and was clean: the connection may carry another."""

    def lost(self, connection: Connection) -> None:
        """The connection is closed; called once."""


class Connection(asyncio.Protocol):
    """See the module's text. `born_at`, `idle_since` and `uses` are its owner's facts about it."""

    __slots__ = (
        "_alarm",
        "_authority",
        "_call",
        "_first_byte_s",
        "_heard_at",
        "_idle_s",
        "_is_paused",
        "_loop",
        "_now",
        "_owner",
        "_poll",
        "_reader",
        "_reads",
        "_stream",
        "_transport",
        "_tunnel",
        "_upload",
        "_waiter",
        "born_at",
        "ended",
        "idle_since",
        "is_open",
        "uses",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._alarm = owner.alarm
        self._authority = owner.authority
        self._first_byte_s = owner.timeouts.first_byte
        self._idle_s = owner.timeouts.idle
        self._now = owner.clock.now
        self._reader = ReplyReader(owner.heads)
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._call: Call | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._stream: Stream | None = None
        self._upload: Upload | None = None
        self._tunnel: Tunnel | None = None
        self._heard_at = 0.0
        self._reads = 0
        self._is_paused = False
        self.born_at = self.idle_since = owner.clock.now()
        self.ended: Ended = ""
        self.is_open = False
        self.uses = 0

    # ------------------------------------------------------------- for the owner
    def is_silent(self) -> bool:
        """True when the kernel holds neither bytes nor a FIN for this idle connection; 0.3 us."""
        return self.is_open and not self._poll.poll(0)

    @property
    def is_unanswered(self) -> bool:
        """True when not one byte of the last exchange's answer arrived."""
        return not self._reader.is_started

    def send(self, call: Call, now: float) -> asyncio.Future[Reply]:
        """Write `call`; the future gets its `Reply` or a `ProxyError`.

        Whoever stops waiting for the future says so with `forsake`.
        """
        self.uses += 1
        self._call = call
        self._heard_at = now
        self._reader.expect(call.method)
        self._waiter = waiter = self._loop.create_future()
        head = request_head(call, self._authority)
        body = call.body
        if not isinstance(body, bytes):
            self._transport.write(head)
            if not call.upgrade:
                self._upload = Upload(body, self._transport, self._upload_ended)
                self._upload.start()
        elif len(body) <= _SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        overdue_at = min(now + self._first_byte_s, call.deadline)
        if overdue_at < self._alarm.armed_for:
            self._alarm.arm(overdue_at)
        return waiter

    def forsake(self, waiter: asyncio.Future[Reply]) -> None:
        """Nobody wants the answer of `waiter` any more: end its exchange unless it is over already."""
        if self._waiter is waiter:
            self.close()

    def overdue_at(self) -> float:
        """The instant at which the exchange in hand has lasted too long; inf when there is none."""
        call = self._call
        if call is None:
            return math.inf
        if self._tunnel is not None:
            return self._tunnel.heard_at + self._idle_s
        if self._is_paused or (self._upload is not None and self._upload.is_starved):
            return call.deadline
        patience_s = self._first_byte_s if self._reader.head is None else self._idle_s
        return min(call.deadline, self._heard_at + patience_s)

    def expire(self, now: float) -> None:
        """End the overdue exchange."""
        call = self._call
        if call is not None and now >= call.deadline:
            self._break(DeadlineExceeded("the deadline passed while the backend was answering"))
        else:
            self._break(ReadTimeout("the backend was silent for too long"))

    def close(self) -> None:
        """Close now; an exchange in hand ends with `Reset`."""
        self._break(Reset("the connection was closed"), "local")

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dial succeeded."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), _HANG_UP)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """A read: part of the awaited answer, or bytes that nobody asked for."""
        if self._call is None:
            self._break(BadReply("bytes that nobody asked for"), "unsolicited")
            return
        reader = self._reader
        try:
            reader.feed(data)
        except BadReply as error:
            self._break(error)
            return
        if reader.informational:
            self._tell_informational(self._call)
        if reader.tunnelled is not None:
            self._switch(self._call, reader.tunnelled)
        elif self._stream is not None:
            self._feed(self._stream)
        elif reader.is_complete:
            self._deliver()
        elif reader.head is not None:
            self._await_rest()

    def eof_received(self) -> None:
        """The backend closed: the end of an answer that only the end delimits; else `connection_lost`."""
        if self._call is None:
            self._break(Reset(), "fin")
            return
        try:
            self._reader.eof()
        except Reset as error:
            self._break(error)
            return
        if self._stream is not None:
            self._feed(self._stream)
        else:
            self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._break(
            Reset(f"the backend broke the connection: {exc}"), "fin" if self._call is None else "error"
        )

    def pause_writing(self) -> None:
        """The backend reads slowly: stop uploading."""
        if self._upload is not None:
            self._upload.pause()

    def resume_writing(self) -> None:
        """The backend has caught up: go on uploading."""
        self._heard_at = self._now()
        if self._upload is not None:
            self._upload.resume()

    # ------------------------------------------------------------- Flow of the answer's stream
    def pause(self) -> None:
        """The consumer is slow."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """The consumer has caught up; the backend's silence counts from now."""
        self._is_paused = False
        self._transport.resume_reading()
        self._heard()

    def abandon(self) -> None:
        """The consumer left: the rest of the answer is worth nothing."""
        self.close()

    # ------------------------------------------------------------- the answer
    def _tell_informational(self, call: Call) -> None:
        interim, self._reader.informational = self._reader.informational, []
        self._heard()
        if call.on_informational is not None:
            for status, headers in interim:
                call.on_informational(status, headers)

    def _deliver(self) -> None:
        reader = self._reader
        if reader.trailers:  # only a stream can carry them
            self._open_stream()
            return
        chunks = reader.chunks
        self._answer(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        self._conclude()

    def _await_rest(self) -> None:
        self._reads += 1
        self._heard()
        head = self._reader.head
        if head is None or head.length is None or head.length > _SMALL_BODY or self._reads >= _SMALL_READS:
            self._open_stream()

    def _open_stream(self) -> None:
        bound_receiving(self._transport)
        head = self._reader.head
        self._stream = stream = Stream(self, None if head is None else head.length)
        self._answer(stream)
        self._feed(stream)

    def _feed(self, stream: Stream) -> None:
        reader = self._reader
        chunks = reader.chunks
        if chunks:  # what one read brought leaves in one write
            stream.feed(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            chunks.clear()
        if reader.is_complete:
            stream.end(reader.trailers)
            self._conclude()
        else:
            self._heard_at = self._now()

    def _answer(self, body: Body) -> None:
        head, waiter = self._reader.head, self._waiter
        if head is None or waiter is None or waiter.done():
            return
        waiter.set_result(
            Reply(head.status, head.headers, body, reason=head.reason, declared_length=head.declared_length)
        )

    def _switch(self, call: Call, data: bytes) -> None:
        if not isinstance(call.body, Stream) or not call.upgrade:
            self._break(BadReply("the backend switched protocols unasked"))
            return
        self._tunnel = tunnel = Tunnel(self._transport, call.body, self._owner.clock, self._tunnel_ended)
        self._alarm.arm(self.overdue_at())
        self._answer(tunnel.stream)
        if data:
            tunnel.data_received(data)

    # ------------------------------------------------------------- ends
    def _heard(self) -> None:
        self._heard_at = self._now()
        self._alarm.arm(self.overdue_at())

    def _upload_ended(self, error: ProxyError | None) -> None:
        self._upload = None
        if error is not None:
            self._break(error, "local")
        else:
            self._heard()

    def _tunnel_ended(self) -> None:
        self._tunnel = None
        self._break(Reset(), "local")

    def _conclude(self) -> None:
        """The answer is whole: free for the next exchange, or closed."""
        is_clean = self._reader.is_clean and self._upload is None
        if self._is_paused:
            self.resume()
        self._call = self._waiter = self._stream = None
        self._reads = 0
        if is_clean:
            self._owner.released(self)
        else:
            self.close()

    def _break(self, error: ProxyError, ended: Ended = "error") -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.ended = ended
        waiter, stream, upload, tunnel = self._waiter, self._stream, self._upload, self._tunnel
        self._call = self._waiter = self._stream = self._upload = self._tunnel = None
        if upload is not None:
            upload.cancel()
        if tunnel is not None:
            tunnel.break_off(error)
        elif stream is not None:
            stream.fail(error)
        elif waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self._transport.abort()
        self._owner.lost(self)
