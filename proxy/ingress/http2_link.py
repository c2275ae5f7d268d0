"""One client's HTTP/2 connection: gRPC calls and plain requests alike enter the pipeline here.

The listener owns the connection; the connection owns its calls and one task for each that has started. It
ends with the client (then every call is broken off), after `keepalive` without calls, or when draining: then
it says GOAWAY in two steps (see `session`) and closes behind its last answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

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
from proxy.http2.session import ServerSession
from proxy.ingress.http2_call import ClientCall

if TYPE_CHECKING:
    import asyncio

    from proxy.exchange import Call
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.events import Event
    from proxy.http2.limits import Limits
    from proxy.ingress.http import Serve
    from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy
    from proxy.timing import Clock, Timer

__all__ = ("ClientLink", "Listener")

log = logging.getLogger(__name__)


class Listener(Protocol):
    """What a connection needs of its listener."""

    pipeline: Serve
    limits: LimitPolicy
    timeouts: ServerTimeoutPolicy
    clock: Clock
    writer: BlockWriter
    session_limits: Limits

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
        self.pipeline = listener.pipeline
        self.body_limit = listener.limits.body
        self.peer = b""
        self.scheme = b"http"
        self._listener = listener
        self._calls: dict[int, ClientCall] = {}
        self._idle_since = clock.now()
        self._idle_timer: Timer | None = None

    # ------------------------------------------------------------- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is, say our settings."""
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].encode() if isinstance(peer, tuple) else b"unix:"
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = b"https"
        super().connection_made(transport)
        self._listener.joined(self)
        self._watch_idleness()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it every call of its."""
        super().connection_lost(exc)
        for stream_id in tuple(self._calls):
            self._break_off(stream_id)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._listener.left(self)

    # ------------------------------------------------------------- for the listener
    def drain(self) -> None:
        """Tell the client to go elsewhere with new requests."""
        self.session.drain()
        self.wake()

    # ------------------------------------------------------------- for calls
    def spawn(self, call: ClientCall, request: Call) -> asyncio.Task[None]:
        """Run `call.serve` as a task of this connection."""
        return self._loop.create_task(call.serve(request))

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
                calls[event.stream_id] = call = ClientCall(self, event.stream_id, event.head)
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
                    log.info("%s: stream %d refused: %s", self.peer.decode(), event.stream_id, event.why)
                self._release(event.stream_id)
                self._break_off(event.stream_id)
            case PingAcked() if not self._calls and not self.session.takes_streams:
                self.hang_up()
            case SessionEnded():
                log.info("%s: connection ended: %s", self.peer.decode(), event.error)

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
        clock = self._listener.clock
        now = clock.now()
        if self._calls:
            self._idle_since = now
        due = self._idle_since + self._listener.timeouts.keepalive
        if now < due:
            self._idle_timer = clock.call_at(due, self._watch_idleness)
        else:
            self.session.close(why="idle")
            self.hang_up()
