"""One HTTP/1.1 connection to a backend: an asyncio protocol that carries one exchange at a time.

Owned by a pool (or a prober). `send` writes a call and returns the future of its `Reply`; nothing here
awaits, so the hot path costs one write, one future and one read. A small answer is delivered whole, any other
at its head with a stream (`download`). When answer and upload are both over, the connection tells its owner
that it is free, provided that the exchange was clean: whole answer, nothing after it, ``keep-alive``, request
fully sent. Everything else closes it. While idle it keeps reading, so that a backend's FIN, reset or unasked
bytes end it instead of becoming the next caller's answer.

It ends in `close` or by the backend's doing; its owner hears `lost` exactly once.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from proxy.errors import BadReply, ProxyError, ReaderStalled, RequestTimeout, Reset
from proxy.exchange import Body, Call, Reply, Stream
from proxy.pooling.download import Download
from proxy.pooling.pace import Paced
from proxy.pooling.reply_reader import ReplyReader
from proxy.pooling.tunnel import Tunnel
from proxy.pooling.upkeep import Retired
from proxy.pooling.upload import Upload
from proxy.pooling.wire import request_head, was_offered

if TYPE_CHECKING:
    from proxy.pooling.alarm import Alarm
    from proxy.pooling.known_heads import HeadTable
    from proxy.pooling.policy import TimeoutPolicy
    from proxy.timing import Clock

__all__ = ("Connection", "Ended", "Owner")

Ended = Literal["", "fin", "unsolicited", "error", "timeout", "last", "abandoned", "shutdown", Retired]
"""Why a connection ended.

While idle: the backend's ``fin`` or ``unsolicited`` bytes, or why it was retired. In an exchange: ``error``
(broken or not HTTP), ``timeout``, ``abandoned`` (nobody wants the answer), ``last`` (the backend said close,
or bytes came after the answer). ``shutdown``: the pool was closed.
"""

_SMALL_BODY: Final = 64 * 1024
_SMALL_READS: Final = 4  # a small body that needs more reads than this is trickling: stream it
_HANG_UP: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class Owner(Protocol):
    """Whoever keeps connections: what they share, and what they tell it."""

    @property
    def clock(self) -> Clock:
        """The pool's time."""

    @property
    def alarm(self) -> Alarm:
        """Who watches over exchanges that last too long."""

    @property
    def heads(self) -> HeadTable:
        """Answers' heads seen before."""

    @property
    def timeouts(self) -> TimeoutPolicy:
        """How long a backend may be silent."""

    @property
    def authority(self) -> bytes:
        """The ``Host`` of a call that has none."""

    def announced(self, timeout_s: float) -> None:
        """The backend says that it keeps idle connections for `timeout_s`."""

    def streaming(self, connection: Connection) -> None:
        """The exchange in hand turned into a stream."""

    def held_up(self, connection: Connection) -> None:
        """The reader of the answer in hand takes nothing more for the time being."""

    def released(self, connection: Connection) -> None:
        """The exchange is over and was clean: the connection may carry another."""

    def lost(self, connection: Connection) -> None:
        """The connection is closed; called once."""


class Connection(Paced):
    """See the module's text. `address` is where it goes, `ended` why it is not open any more."""

    __slots__ = (
        "_loop",
        "_owner",
        "_poll",
        "_reads",
        "_transport",
        "_waiter",
        "address",
        "ended",
        "is_open",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        super().__init__(ReplyReader(owner.heads), owner.timeouts, owner.alarm, owner.clock.now)
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._waiter: asyncio.Future[Reply] | None = None
        self._reads = 0
        self.address = ""
        self.ended: Ended = ""
        self.is_open = False

    # ------------------------------------------------------------- for the owner
    def is_silent(self) -> bool:
        """True when the kernel holds neither bytes nor a FIN for this idle connection; 0.3 us."""
        return self.is_open and not self._poll.poll(0)

    @property
    def was_stale(self) -> bool:
        """True when a reused connection broke before the first byte of the last exchange's answer."""
        return self.uses > 1 and self.ended == "error" and not self._reader.is_started

    def send(self, call: Call, now: float) -> asyncio.Future[Reply]:
        """Write `call`; the future gets its `Reply` or a `ProxyError`.

        Whoever stops waiting for the future says so with `forsake`.
        """
        self.uses += 1
        self._call = call
        self._heard_at = now
        self._reader.expect(call.method)
        self._waiter = waiter = self._loop.create_future()
        head = request_head(call, self._owner.authority)
        body = call.body
        if not isinstance(body, bytes):
            self._transport.write(head)
            if not call.upgrade:
                self._upload = Upload(body, self._transport, self._upload_ended, now=self._now)
                self._upload.start()
        elif len(body) <= _SMALL_BODY:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        armed_for = self._alarm.armed_for
        if call.deadline < armed_for or now + self._timeouts.first_byte < armed_for:
            self._alarm.arm(self.overdue_at())
        return waiter

    def forsake(self, waiter: asyncio.Future[Reply]) -> None:
        """Nobody wants the answer of `waiter` any more: end its exchange unless it is over already."""
        if self._waiter is waiter:
            self.close("abandoned")

    def expire(self, now: float) -> None:
        """End the overdue exchange."""
        self._break(self._lateness(now), "timeout")

    def make_way(self) -> None:
        """End the exchange in hand, whose client holds others up."""
        if self._download is None:
            error: ProxyError = RequestTimeout("the client sent nothing of its request while others waited")
        else:
            error = ReaderStalled("the client took nothing of its answer while others waited")
            self._download.stream.break_off(error)
        self._break(error, "abandoned")

    def close(self, why: Ended) -> None:
        """Close now; an exchange in hand ends with `Reset`."""
        self._break(Reset("the connection was closed"), why)

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The dial succeeded."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), _HANG_UP)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """A read: part of the awaited answer, or bytes that nobody asked for."""
        reader, download = self._reader, self._download
        if download is not None:  # first, because this runs for each token of a stream
            self._heard_at = self._now()
            piece = reader.lone_chunk(data)
            if piece:
                download.stream.feed_chunk(piece, data)
                return
        call = self._call
        if call is None:
            self._break(BadReply("bytes that nobody asked for"), "unsolicited")
            return
        try:
            reader.feed(data)
        except BadReply as error:
            self._break(error)
            return
        if download is not None:
            self._pump(download)
            return
        if reader.informational:
            reader.tell_informational(call.on_informational)
            self.heard()
        if reader.tunnelled is not None:
            self._switch(call, reader.tunnelled)
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
        if self._download is not None:
            self._pump(self._download)
        else:
            self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._break(
            Reset(f"the backend broke the connection: {exc}"), "fin" if self._call is None else "error"
        )

    # ------------------------------------------------------------- the answer
    def _deliver(self) -> None:
        reader = self._reader
        if reader.has_trailers:  # only a stream can carry them
            self._open_download()
            return
        chunks = reader.chunks
        self._answer(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        self._conclude()

    def _await_rest(self) -> None:
        """The head is here, the body is not: wait for a small one, stream any other."""
        self._reads += 1
        self.heard()
        head = self._reader.head
        if head is None or head.length is None or head.length > _SMALL_BODY or self._reads >= _SMALL_READS:
            self._open_download()

    def _open_download(self) -> None:
        self._owner.streaming(self)
        self._download = download = Download(self._reader, self._transport, self._owner.clock, self)
        self._answer(download.stream)
        self._pump(download)

    def _pump(self, download: Download) -> None:
        download.pump()
        if self._reader.is_complete:
            self._conclude()

    def _answer(self, body: Body) -> None:
        head, waiter = self._reader.head, self._waiter
        if head is None or waiter is None or waiter.done():
            return
        waiter.set_result(
            Reply(head.status, head.headers, body, reason=head.reason, declared_length=head.declared_length)
        )

    def _switch(self, call: Call, data: bytes) -> None:
        head = self._reader.head
        if not isinstance(call.body, Stream) or head is None or not was_offered(head, call.upgrade):
            self._break(BadReply("the backend switched protocols unasked"))
            return
        self._owner.streaming(self)
        self._tunnel = tunnel = Tunnel(
            self._transport, call.body, self._owner.clock, lambda: self.close("last")
        )
        self._alarm.arm(self.overdue_at())
        self._answer(tunnel.stream)
        if data:
            tunnel.data_received(data)

    # ------------------------------------------------------------- ends
    def held_up(self) -> None:
        """The reader of the answer takes nothing more for the time being."""
        self._owner.held_up(self)

    def _upload_ended(self, error: ProxyError | None) -> None:
        self._upload = None
        if error is not None:
            self._break(error, "abandoned")
        else:
            self.heard()

    def _conclude(self) -> None:
        """The answer is whole: free for the next exchange, or closed."""
        reader = self._reader
        self._call = self._waiter = self._download = None
        self._reads = 0
        if self._upload is not None or not reader.is_clean:
            self.close("last")
            return
        if reader.head is not None and reader.head.keep_alive_s is not None:
            self._owner.announced(reader.head.keep_alive_s)
        self._owner.released(self)

    def _break(self, error: ProxyError, ended: Ended = "error") -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.ended = ended
        waiter, download, upload, tunnel = self._waiter, self._download, self._upload, self._tunnel
        self._call = self._waiter = self._download = self._upload = self._tunnel = None
        if upload is not None:
            upload.cancel()
        if tunnel is not None:
            tunnel.break_off(error)
        elif download is not None:
            download.fail(error)
        elif waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self._transport.abort()
        self._owner.lost(self)
