"""The HTTP/1.1 listener: aiohttp's low-level server, with our own request loop on each connection.

aiohttp's `RequestHandler` owns the connection's life (registry, TCP options, keep-alive timer, write
flow control, graceful shutdown); parsing and answering are replaced, because both are paid on each request:
no request object, no URL object, no task for each request, and an answer leaves as one prepared buffer.

Who owns what: the server owns its connections, a connection owns its one task (`start`), the task owns the
call that it serves. When the client goes away the task is cancelled, and with it whatever the call holds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from aiohttp.web import Server
from aiohttp.web_protocol import RequestHandler

from proxy.config.addresses import Address
from proxy.errors import ProxyError
from proxy.exchange import Call, Reply, Stream
from proxy.ingress.headers import body_allowed, reply_head
from proxy.ingress.parser import Arrival, RequestParser
from proxy.ingress.replies import error_reply
from proxy.kernel_buffers import bound_receiving
from proxy.streaming.relay import Relay
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from aiohttp.web import StreamResponse

    from proxy.ingress.policy import LimitPolicy, ServerTimeoutPolicy

__all__ = ("ClientConnection", "HttpServer", "Serve")

log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for zero seconds
# A client that pipelines is read no further while this many of its requests wait.
_MAX_PIPELINED = 32
# The kernel's own cap (net.core.somaxconn) is the smaller one on most machines.
_BACKLOG = 4096
# How long a client that is still sending may take to notice that its answer has come. Closing at once would
# reset the connection and could destroy the answer on its way (RFC 9112 §9.6).
_LINGER_S = 2.0
# Above this size the copy that joins head and body costs more than a second write.
_ONE_BUFFER = 64 * 1024


class Serve(Protocol):
    """What a connection needs of the pipeline."""

    async def serve(self, call: Call) -> Reply:
        """Answer `call`; raises `ProxyError` for what Pillion answers itself."""


class ClientConnection(RequestHandler):
    """One client connection: reads requests, awaits the pipeline, writes answers in order."""

    __slots__ = ("_arrivals", "_is_lingering", "_peer", "_relay", "_requests", "_server")

    def __init__(
        self, server: HttpServer, *, loop: asyncio.AbstractEventLoop, keepalive_timeout: float
    ) -> None:
        # access_log=None is how aiohttp is told to keep no log of its own; its annotation does not know.
        super().__init__(server, loop=loop, keepalive_timeout=keepalive_timeout, access_log=None)  # type: ignore[arg-type]
        self._server = server
        self._requests = RequestParser(server.limits, self)
        self._arrivals: deque[Arrival] = deque()
        self._peer = b""
        self._is_lingering = False
        self._relay: Relay | None = None

    # ------------------------------------------------------------- transport callbacks
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is, then start the request loop."""
        peer = transport.get_extra_info("peername")
        self._peer = peer[0].encode() if isinstance(peer, tuple) else b"unix:"
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Break off an unfinished upload; the base class cancels the request loop."""
        self._requests.eof()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; wake the request loop when a request has begun."""
        if self._is_lingering:
            return
        arrivals = self._requests.feed(data)
        if arrivals:
            self._arrivals.extend(arrivals)
            if len(self._arrivals) > _MAX_PIPELINED:
                self._pause_reading_for_buffer()
        elif self._requests.fault is None:
            return
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ------------------------------------------------------------- Flow of the request body
    def pause(self) -> None:
        """The reader of the request body is slow."""
        self._pause_transport_reading()

    def resume(self) -> None:
        """The reader of the request body has caught up."""
        if not self._buffer_paused:
            self._resume_transport_reading()

    def abandon(self) -> None:
        """Nobody wants the rest of the request body; the connection closes behind its answer."""
        self._resume_transport_reading()

    # ------------------------------------------------------------- the request loop
    async def start(self) -> None:
        """Serve one request after the other until either side is done with the connection."""
        try:
            while not self._force_close:
                if not self._arrivals:
                    if self._requests.fault is not None:
                        self._write_reply(None, error_reply(self._requests.fault), keep_alive=False)
                        await self._linger()
                        break
                    await self._next_request()
                    continue
                arrival = self._arrivals.popleft()
                if self._buffer_paused and not self._arrivals:
                    self._resume_reading_for_buffer()
                if not await self._answer(arrival):
                    if not _is_consumed(arrival.call):
                        await self._linger()
                    break
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        finally:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _next_request(self) -> None:
        if self._server.is_draining and self._requests.is_idle:
            self._force_close = True
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _answer(self, arrival: Arrival) -> bool:
        """Serve one request; False when the connection must close behind the answer."""
        call = arrival.call
        call.peer = self._peer
        self._server.requests_count += 1
        self._request_in_progress = True
        try:
            if arrival.expects_continue and isinstance(call.body, Stream) and self.transport is not None:
                self.transport.write(_CONTINUE)
            if isinstance(call.body, Stream) and self.transport is not None:
                bound_receiving(self.transport)
            reply = await self._reply_to(call)
            keep_alive = arrival.keep_alive and not self._server.is_draining and _is_consumed(call)
            if isinstance(reply.body, Stream):
                return await self._stream_reply(call, reply, reply.body, keep_alive=keep_alive)
            self._write_reply(call, reply, keep_alive=keep_alive)
            if self.writing_paused:
                await self._drain_helper()
            return keep_alive
        finally:
            self._request_in_progress = False
            if isinstance(call.body, Stream):
                call.body.abandon()
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)

    async def _reply_to(self, call: Call) -> Reply:
        try:
            return await self._server.pipeline.serve(call)
        except ProxyError as error:
            return error_reply(error, call.dialect)
        except Exception:
            log.exception("a call failed inside the proxy")
            return error_reply(ProxyError("internal error of the proxy"), call.dialect)

    async def _linger(self) -> None:
        """Let a client that is still sending read its answer before the connection goes."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return
        self._is_lingering = True
        transport.write_eof()
        self._waiter = self._loop.create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._waiter  # connection_lost cancels this task

    # ------------------------------------------------------------- answers
    def _write_reply(self, call: Call | None, reply: Reply, *, keep_alive: bool) -> None:
        transport = self.transport
        if transport is None:
            return
        body = reply.body
        if not isinstance(body, bytes):  # pragma: no cover - streams go through _stream_reply
            raise TypeError("a streamed reply needs _stream_reply")
        head = reply_head(call, reply, len(body), keep_alive=keep_alive)
        if call is not None and not body_allowed(call.method, reply.status):
            transport.write(head)
        elif len(body) <= _ONE_BUFFER:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    async def _stream_reply(self, call: Call, reply: Reply, body: Stream, *, keep_alive: bool) -> bool:
        """Relay a body as it comes; a body that breaks off aborts the connection, never ends it cleanly."""
        why: ProxyError | None = None
        try:
            transport = self.transport
            if transport is None:
                return False
            if not body_allowed(call.method, reply.status):
                transport.write(reply_head(call, reply, body.length, keep_alive=keep_alive))
                return keep_alive
            is_chunked = body.length is None and call.http_version >= 11
            keep_alive = keep_alive and (is_chunked or body.length is not None)
            self._relay = Relay(body, transport, self._server.clock, is_chunked=is_chunked)
            await self._relay.run(reply_head(call, reply, body.length, keep_alive=keep_alive))
        except ProxyError as error:
            why = error
            self._reset()
            return False
        finally:
            self._relay = None
            body.abandon(why)
        return keep_alive

    def pause_writing(self) -> None:
        """The kernel takes no more: so does the relay."""
        super().pause_writing()
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        """The kernel has caught up."""
        super().resume_writing()
        if self._relay is not None:
            self._relay.resume()

    def _reset(self) -> None:
        """Close by RST: a FIN would end a close-delimited body as if it were whole."""
        transport = self.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()


def _is_consumed(call: Call) -> bool:
    """True when the request's body has been received whole, so that the next request can follow."""
    body = call.body
    return isinstance(body, bytes) or (body.is_ended and body.error is None)


class HttpServer(Server):
    """Accepts client connections at `place`; a component of the lifecycle (start, drain, stop)."""

    def __init__(
        self, pipeline: Serve, place: Address, limits: LimitPolicy, timeouts: ServerTimeoutPolicy
    ) -> None:
        super().__init__(_unused_handler, handler_cancellation=True)
        self.pipeline = pipeline
        self.limits = limits
        self.clock = LoopClock(self._loop)
        self.is_draining = False
        self.address = ""
        self._place = place
        self._timeouts = timeouts
        self._listener: asyncio.Server | None = None

    def __call__(self) -> RequestHandler:
        """One connection's protocol (the event loop calls this on accept)."""
        return ClientConnection(self, loop=self._loop, keepalive_timeout=self._timeouts.keepalive)

    async def start(self) -> None:
        """Bind and accept; `address` says where. OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        place = self._place
        if place.path:
            self._listener = await loop.create_unix_server(self, place.path, backlog=_BACKLOG)
            self.address = str(place)
            return
        self._listener = await loop.create_server(self, place.host or None, place.port, backlog=_BACKLOG)
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = f"http://{Address(host, port)}"

    async def drain(self, deadline: float) -> None:
        """Accept nothing new, answer everything admitted, then close; bounded by `deadline`."""
        self.is_draining = True
        if self._listener is not None:
            self._listener.close()
        self.pre_shutdown()  # idle connections go at once
        remaining = max(0.0, deadline - self._loop.time())
        await self.shutdown(remaining)

    async def stop(self) -> None:
        """Close what is left."""
        if self._listener is not None:
            self._listener.close()
        await self.shutdown(0)


async def _unused_handler(_request: object) -> StreamResponse:
    raise AssertionError("ClientConnection answers without aiohttp's handler")  # pragma: no cover
