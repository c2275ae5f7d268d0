"""One client's HTTP/2 connection: gRPC calls and plain requests alike enter the pipeline here.

The listener owns the connection; the connection owns its calls and one task for each that has started. It
ends with the client (then every call is broken off), after `keepalive` without calls, when the client owes
the rest of a header block for longer than `header`, when it is silent with calls in progress and answers no
PING (see `pulse`), or when draining: then it says GOAWAY in two steps (see `session`) and closes behind its
last answer.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import ProxyError, ReaderStalled
from proxy.http2.errors import ErrorCode
from proxy.http2.events import (
    DataReceived,
    PingAcked,
    RequestReceived,
    SendQueueDrained,
    SessionEnded,
    StreamReset,
    TrailersReceived,
)
from proxy.http2.link import Link
from proxy.http2.pulse import Pulse
from proxy.http2.session import ServerSession
from proxy.ingress.forwarding import Hop
from proxy.ingress.head import read_http2_head
from proxy.ingress.http2_call import CallListener, ClientCall
from proxy.ingress.http2_upload import Upload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from proxy.exchange import Stream
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.events import Event
    from proxy.http2.headers import RequestHead
    from proxy.http2.intake import ReadBuffer
    from proxy.http2.limits import Limits
    from proxy.ingress.head import Head
    from proxy.ingress.policy import ServerTimeoutPolicy
    from proxy.timing import Clock, Timer

__all__ = ("ClientLink", "Listener")

log = logging.getLogger(__name__)

_MOST_VERDICTS: Final = 512


class Listener(CallListener, Protocol):
    """What a connection needs of its listener."""

    timeouts: ServerTimeoutPolicy
    clock: Clock
    writer: BlockWriter
    buffer: ReadBuffer
    session_limits: Limits

    @property
    def is_crowded(self) -> bool:
        """True when this connection is one too many."""

    def hop_of(self, transport: asyncio.BaseTransport, before: Hop | None = None) -> Hop:
        """What the rules make of a connection; `before` is what other rules made of it."""

    def joined(self, link: ClientLink) -> None:
        """A client has connected."""

    def left(self, link: ClientLink) -> None:
        """A client's connection is gone."""


class ClientLink(Link[ServerSession]):
    """See the module's text."""

    def __init__(self, listener: Listener) -> None:
        clock = listener.clock
        write_stall_s = listener.timeouts.write_stall
        super().__init__(
            ServerSession(listener.session_limits),
            listener.writer,
            clock.now,
            buffer=listener.buffer,
            write_stall_s=write_stall_s,
        )
        self.listener = listener
        self.hop = Hop(b"")
        self._verdicts: dict[int, tuple[RequestHead, Head | ProxyError]] = {}
        self._calls: dict[int, ClientCall] = {}
        self._idle_since = clock.now()
        self._pulse = Pulse(listener.timeouts.ping)
        self._mid_head_since: float | None = self._idle_since
        self._timer: Timer | None = None
        self._armed_for = math.inf

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is, say our settings."""
        self.hop = self.listener.hop_of(transport)
        super().connection_made(transport)
        self.listener.joined(self)
        if self.listener.is_crowded:
            self.session.close(ErrorCode.ENHANCE_YOUR_CALM, "too many connections")
            self.hang_up()
        timeouts = self.listener.timeouts
        self._arm(self._idle_since + min(timeouts.header, timeouts.keepalive, timeouts.ping or math.inf))

    def _act(self, events: list[Event]) -> None:
        """Notes when a head begins that the read does not end."""
        super()._act(events)
        if not self.session.is_mid_head:
            self._mid_head_since = None
        elif self._mid_head_since is None:
            self._mid_head_since = now = self.now()
            self._arm(now + self.listener.timeouts.header)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it every call of its."""
        super().connection_lost(exc)
        for stream_id in tuple(self._calls):
            self._break_off(stream_id)
        if self._timer is not None:
            self._timer.cancel()
        self.listener.left(self)

    # ------------------------------------------------------------- for the listener
    def drain(self) -> None:
        """Tell the client to go elsewhere with new requests."""
        self.session.drain()
        self.wake()

    def renew(self) -> None:
        """The listener has other rules: by them the next request is judged."""
        self.hop = self.listener.hop_of(self._transport, self.hop)
        self._verdicts.clear()

    # ------------------------------------------------------------- for calls
    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a call's work as a task of this connection."""
        return self._loop.create_task(work)

    def judge(self, request: RequestHead) -> Head | ProxyError:
        """What the rules make of a head; the session hands equal heads out as one object."""
        known = self._verdicts.get(id(request))
        if known is not None and known[0] is request:
            return known[1]
        try:
            verdict: Head | ProxyError = read_http2_head(request, self.hop, self.listener.rules)
        except ProxyError as error:
            verdict = error.with_traceback(None)
        if len(self._verdicts) >= _MOST_VERDICTS:
            self._verdicts.clear()
        self._verdicts[id(request)] = request, verdict
        return verdict

    def stalled(self, body: Stream) -> None:
        """The client reads nothing: it, and not the backend, ends the answer."""
        body.abandon(ReaderStalled())

    def forget(self, stream_id: int) -> None:
        """The call is over: its end leaves with those of others, at once where there are none."""
        self._calls.pop(stream_id, None)
        if self._calls:
            self.wake()
            return
        self._idle_since = self.now()
        self.flush()
        if not self.session.takes_streams:
            self.hang_up()

    # ------------------------------------------------------------- events
    def _handle(self, events: list[Event]) -> None:
        calls = self._calls
        fresh: list[Upload] = []
        fed: list[Upload] = []
        limits = self.listener.rules.limits
        most, most_grpc = limits.body, limits.message or math.inf
        for event in events:
            if isinstance(event, RequestReceived):
                if event.is_ended and len(event.data) <= (most_grpc if event.head.is_grpc else most):
                    calls[event.stream_id] = call = ClientCall(self, event)
                    call.start(event.data)
                else:
                    calls[event.stream_id] = upload = Upload(self, event)
                    fresh.append(upload)
                    if event.data:
                        upload.receive([event.data], is_ended=event.is_ended)
            elif isinstance(event, DataReceived):
                known = calls.get(event.stream_id)
                if isinstance(known, Upload):
                    known.receive(event.pieces, is_ended=event.is_ended)
                    fed.append(known)
            else:
                self._handle_rare(event)
        self._see_to(fresh, fed)

    def _see_to(self, fresh: list[Upload], fed: list[Upload]) -> None:
        """What becomes of uploads after the read that began them or brought more of them."""
        for upload in fed:
            upload.flush()
        for upload in fresh:
            if not upload.is_started:
                upload.wait_for_more()
            if not upload.is_patient:
                self._arm(self.now() + self.listener.timeouts.body_stall)

    def _handle_rare(self, event: Event) -> None:
        match event:
            case SendQueueDrained():
                self._release(event.stream_id)
            case TrailersReceived():
                upload = self._calls.get(event.stream_id)
                if isinstance(upload, Upload):
                    upload.end(event.headers)
            case StreamReset():
                if not event.by_peer:
                    log.info("%s: stream %d refused: %s", self.hop.peer.decode(), event.stream_id, event.why)
                self._release(event.stream_id)
                self._break_off(event.stream_id)
            case PingAcked() if not self._calls and not self.session.takes_streams:
                self.hang_up()
            case SessionEnded():
                log.info("%s: connection ended: %s", self.hop.peer.decode(), event.error)

    def _break_off(self, stream_id: int) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        task = call.break_off()
        if task is not None:  # one that is cancelled before its first step never gets to its `finally`
            task.add_done_callback(lambda _task: call.close())

    # ------------------------------------------------------------- ends
    def _arm(self, when: float) -> None:
        """Look at the client's silence at `when` at the latest."""
        if when >= self._armed_for or not self.is_open:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = when
        self._timer = self.listener.clock.call_at(when, self._watch)

    def _watch(self) -> None:
        """Part with a client that owes the rest of a head, or is idle; refuse a body that stalls."""
        self._timer, self._armed_for = None, math.inf
        if not self.is_open:
            return
        now, timeouts = self.now(), self.listener.timeouts
        if self._calls:
            self._idle_since = now
        due = self._idle_since + timeouts.keepalive
        if self._mid_head_since is not None:
            head_due = self._mid_head_since + timeouts.header
            if now >= head_due:
                self._part(ErrorCode.ENHANCE_YOUR_CALM, "a head that does not end")
                return
            due = min(due, head_due)
        if now >= due:
            self._part(ErrorCode.NO_ERROR, "idle")
            return
        look_at = self.feel(self._pulse) if self._calls else now + (timeouts.ping or math.inf)
        if look_at is None:
            log.info("%s: gives no sign of life", self.hop.peer.decode())
            self.abort()
            return
        due = min(due, look_at)
        uploads = [call for call in self._calls.values() if isinstance(call, Upload)]
        self._arm(min(due, min([upload.expire(now, timeouts.body_stall) for upload in uploads], default=due)))

    def _part(self, code: ErrorCode, why: str) -> None:
        self.session.close(code, why)
        self.hang_up()
