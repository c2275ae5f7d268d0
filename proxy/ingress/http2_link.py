"""One client's HTTP/2 connection: gRPC calls and plain requests alike enter the pipeline here.

The listener owns the connection; the connection owns its calls and one task for each that has started. It
ends with the client (then every call is broken off), after `keepalive` without calls, or when draining: then
it says GOAWAY in two steps (see `session`) and closes behind its last answer.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import ProxyError
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
from proxy.ingress.tls import server_name_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from proxy.http2.blocks import BlockWriter
    from proxy.http2.events import Event
    from proxy.http2.headers import RequestHead
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
    session_limits: Limits

    @property
    def is_crowded(self) -> bool:
        """True when this connection is one too many."""

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
            ServerSession(listener.session_limits), listener.writer, clock.now, write_stall_s=write_stall_s
        )
        self.listener = listener
        self.hop = Hop(b"")
        self._verdicts: dict[int, tuple[RequestHead, Head | ProxyError]] = {}
        self._calls: dict[int, ClientCall] = {}
        self._idle_since = clock.now()
        self._pulse = Pulse(listener.timeouts.ping)
        self._idle_timer: Timer | None = None

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is, say our settings."""
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        ssl_object = transport.get_extra_info("ssl_object")
        self.hop = self.listener.rules.hop(
            peer[0].encode() if isinstance(peer, tuple) else b"unix:",
            scheme=b"https" if ssl_object is not None else b"http",
            port=here[1] if isinstance(here, tuple) else 0,
            server_name=server_name_of(ssl_object),
        )
        super().connection_made(transport)
        self.listener.joined(self)
        if self.listener.is_crowded:
            self.session.close(ErrorCode.ENHANCE_YOUR_CALM, "too many connections")
            self.hang_up()
        self._watch_idleness()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it every call of its."""
        super().connection_lost(exc)
        for stream_id in tuple(self._calls):
            self._break_off(stream_id)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.listener.left(self)

    # ------------------------------------------------------------- for the listener
    def drain(self) -> None:
        """Tell the client to go elsewhere with new requests."""
        self.session.drain()
        self.wake()

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

    def forget(self, stream_id: int) -> None:
        """The call is over."""
        self._calls.pop(stream_id, None)
        if not self._calls:
            self._idle_since = self.now()
            if not self.session.takes_streams:
                self.hang_up()

    # ------------------------------------------------------------- events
    def _handle(self, events: list[Event]) -> None:
        calls = self._calls
        fresh: list[ClientCall] = []
        for event in events:
            if isinstance(event, RequestReceived):
                calls[event.stream_id] = call = ClientCall(
                    self, event.stream_id, event.head, self.judge(event.head)
                )
                if event.is_ended:
                    call.start(b"")
                else:
                    fresh.append(call)
            elif isinstance(event, DataReceived):
                known = calls.get(event.stream_id)
                if known is not None:
                    known.take(event.data, is_ended=event.is_ended)
            else:
                self._handle_rare(event)
        for call in fresh:
            if not call.is_started:
                call.wait_for_more()

    def _handle_rare(self, event: Event) -> None:
        match event:
            case SendQueueDrained():
                self._release(event.stream_id)
            case TrailersReceived():
                if event.stream_id in self._calls:
                    self._calls[event.stream_id].end(event.headers)
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
        if task is None:
            self.forget(stream_id)
        else:  # a task that is cancelled before its first step never gets to its `finally`
            task.add_done_callback(lambda _task: self.forget(stream_id))

    # ------------------------------------------------------------- ends
    def _watch_idleness(self) -> None:
        self._idle_timer = None
        if not self.is_open:
            return
        clock = self.listener.clock
        now = clock.now()
        if self._calls:
            self._idle_since = now
        due = self._idle_since + self.listener.timeouts.keepalive
        if now >= due:
            self.session.close(why="idle")
            self.hang_up()
            return
        look_at = self.feel(self._pulse) if self._calls else now + (self.listener.timeouts.ping or math.inf)
        if look_at is None:
            log.info("%s: gives no sign of life", self.hop.peer.decode())
            self.abort()
        else:
            self._idle_timer = clock.call_at(min(due, look_at), self._watch_idleness)
