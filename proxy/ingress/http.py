"""One HTTP/1.1 client connection: reads requests, awaits the pipeline, writes answers in order.

aiohttp's `RequestHandler` owns the connection's life (registry, TCP options, write flow control, graceful
shutdown); parsing and answering are replaced, because both are paid on each request: no request object, no
URL object, no task for each request, and an answer leaves as one prepared buffer.

Who owns what: the server owns its connections, a connection owns its one task (`start`), the task owns the
call that it serves. When the client goes away the task is cancelled, and with it whatever the call holds. A
client that only half-closed gets its answers first (`look` tells the two apart).

It waits for requests, the pipeline, bodies and the client's reading; how long it may wait for the client is
judged by the server's scan (`inspect`), which is why no timer is set here.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from proxy.errors import ClientGone, ProxyError, TooManyConnections
from proxy.exchange import Call, Reply, Stream
from proxy.ingress.parser import Arrival, RequestParser
from proxy.ingress.patience import Patience
from proxy.ingress.replies import error_reply
from proxy.ingress.supervision import SupervisedConnection
from proxy.kernel_buffers import FROM_AFAR, bound_receiving

if TYPE_CHECKING:
    from proxy.exchange import Body
    from proxy.ingress.server import HttpServer

__all__ = ("ClientConnection",)

log = logging.getLogger(__name__)

# A client that pipelines is read no further while more of its requests wait.
_MAX_PIPELINED: Final = 8
# How long a client that is still sending may take to notice that its answer has come. Closing at once would
# reset the connection and could destroy the answer on its way (RFC 9112 §9.6).
_LINGER_S: Final = 2.0
_NOT_FOR_US: Final = Reply(
    200, ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),), source="proxy"
)


class ClientConnection(SupervisedConnection):
    """See the module's text."""

    __slots__ = ("_hop", "_inform", "_is_lingering")

    def __init__(self, server: HttpServer, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop)
        self._is_lingering = False

    # ------------------------------------------------------------- transport callbacks
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is, then start the request loop."""
        server = self._server
        self._hop = server.hop_of(transport)
        self._patience = Patience(server.timeouts, server.rules.limits.body_rate, server.attention.instant)
        self._requests = RequestParser(
            server.rules, self._hop, self, ledger=server.ledger, new_ids=server.new_ids
        )
        self._inform = self._relay_interim
        if server.is_crowded:
            self._is_lingering = True
            self.transport = transport  # type: ignore[assignment]  # a stream transport, as in aiohttp
            self._write_reply(None, error_reply(TooManyConnections(retry_after_s=1.0)), keep_alive=False)
            self._server.refuse(self._unserved(), TooManyConnections())
            self.force_close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Break off an unfinished upload; the base class cancels the request loop."""
        self._server.unwatch(self)
        self._requests.break_off(ClientGone())
        while self._arrivals:
            self._release(self._arrivals.popleft().call.body)
        super().connection_lost(exc)
        del self._inform  # a cycle with this object

    def data_received(self, data: bytes) -> None:
        """Parse; wake the request loop when a request has begun."""
        if self._is_lingering:
            return
        arrivals = self._requests.feed(data)
        if arrivals:
            self._accept(arrivals)
        elif self._requests.fault is not None:
            self._wake()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's own never half-closes
        """FIN: gone, or half-closed and waiting for answers. True keeps the connection open for these."""
        self._requests.eof()
        self._has_eof = self._has_fin = True
        is_busy = self._serving is not None or self._arrivals or self._requests.fault is not None
        if not is_busy or self._is_lingering or self._hop.scheme == b"https":  # TLS has no half-close here
            return False
        self._wake()
        self._server.watch(self)
        self.look(is_deep=True)
        return True

    def renew(self) -> None:
        """The server has other rules: by them the next request is judged."""
        if self.transport is not None:
            self._hop = self._server.hop_of(self.transport, self._hop)
            self._requests.renew(self._server.rules, self._hop)

    def _accept(self, arrivals: list[Arrival]) -> None:
        server = self._server
        for arrival in arrivals:
            call = arrival.call
            if isinstance(call.body, bytes):
                server.ledger.used += len(call.body)
            server.newest.is_newest, server.newest = False, call
            call.is_newest = True
        self._arrivals.extend(arrivals)
        if len(self._arrivals) > _MAX_PIPELINED or self._requests.has_more:
            self._pause_reading_for_buffer()
            self._server.watch(self)
        self._wake()

    # ------------------------------------------------------------- Flow of the request body
    def pause(self) -> None:
        """The reader of the request body is slow."""
        self._is_held = True
        self._pause_transport_reading()
        self._server.watch(self)

    def resume(self) -> None:
        """The reader of the request body has caught up."""
        self._is_held = False
        if not self._buffer_paused:
            self._resume_transport_reading()

    def abandon(self) -> None:
        """Nobody wants the rest of the request body; the connection closes behind its answer."""
        self.resume()

    # ------------------------------------------------------------- the request loop
    async def start(self) -> None:
        """Serve one request after the other until either side is done with the connection."""
        try:
            while not self._force_close:
                if not self._arrivals:
                    if self._requests.has_more:
                        self._accept(self._requests.feed(b""))
                        continue
                    if self._requests.fault is not None:
                        await self._refuse(self._requests.fault)
                        break
                    if self._has_eof:
                        break
                    await self._next_request()
                    continue
                arrival = self._arrivals.popleft()
                if self._buffer_paused and not self._arrivals and not self._requests.has_more:
                    self._resume_reading_for_buffer()
                if not await self._answer(arrival):
                    if self._may_get_more(arrival.call):
                        await self._linger()
                    break
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

    async def _refuse(self, fault: ProxyError) -> None:
        """Answer what could not be served at all, and read nothing behind it."""
        call = self._unserved()
        self._server.refuse(call, fault)
        self._write_reply(None, error_reply(fault, call.dialect), keep_alive=False)
        await self._linger()

    def _unserved(self) -> Call:
        """What is known of a request that is refused."""
        call = Call(*self._requests.refused, ())
        call.peer, call.certificate = self._hop.peer, self._hop.certificate
        return call

    async def _answer(self, arrival: Arrival) -> bool:
        """Serve one request; False when the connection must close behind the answer."""
        self._serving = arrival
        self._has_answered = False
        self._request_count += 1
        self._request_in_progress = True
        call = arrival.call
        call.is_seen_off = True
        if call.http_version > 10:
            call.on_informational = self._inform
        body = call.body
        if not isinstance(body, bytes) and self.transport is not None:
            bound_receiving(self.transport, FROM_AFAR)
        try:
            reply = await self._reply_to(arrival)
            self._has_answered = True
            if reply.status == 101 and isinstance(reply.body, Stream):
                await self._tunnel(call, reply, reply.body)
                return False
            if call.upgrade:
                self._accept(self._requests.decline_upgrade())
            keep_alive = arrival.head.keep_alive and self._may_go_on(call)
            if isinstance(reply.body, Stream):
                return await self._stream_reply(arrival, reply, reply.body, keep_alive=keep_alive)
            self._write_reply(arrival, reply, keep_alive=keep_alive)
            if self.writing_paused:
                call.left()
                await self._drained()
            return keep_alive
        finally:
            call.left()
            self._serving = None
            self._request_in_progress = False
            self._release(body)
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)

    def _may_go_on(self, call: Call) -> bool:
        """True when another request, or the refusal of one, may follow `call` on this connection."""
        return (
            not self._server.is_draining
            and _is_consumed(call)
            and (not self._has_eof or bool(self._arrivals) or self._requests.fault is not None)
        )

    def _may_get_more(self, call: Call) -> bool:
        """True when the client may still be sending, not knowing that nobody will listen."""
        return not _is_consumed(call) or bool(self._arrivals) or self._server.is_draining

    async def _reply_to(self, arrival: Arrival) -> Reply:
        call = arrival.call
        if arrival.head.is_for_us:
            return _NOT_FOR_US
        try:
            return await self._server.pipeline.serve(call)
        except ProxyError as error:
            return error_reply(error, call.dialect)
        except Exception:
            log.exception("a call failed inside the proxy")
            return error_reply(ProxyError("internal error of the proxy"), call.dialect)

    def _release(self, body: Body) -> None:
        """The request `body` is held no longer."""
        if isinstance(body, bytes):
            self._server.ledger.used -= len(body)
        else:
            body.abandon()

    async def _linger(self) -> None:
        """Let a client that is still sending read its answer before the connection goes."""
        transport = self.transport
        if transport is None or transport.is_closing() or not transport.can_write_eof() or self._has_eof:
            return
        self._is_lingering = True
        self._resume_transport_reading()
        self._close_our_half(transport)
        self._waiter = self._loop.create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._waiter  # connection_lost cancels this task


def _is_consumed(call: Call) -> bool:
    """True when the request's body has been received whole, so that the next request can follow."""
    body = call.body
    return isinstance(body, bytes) or (body.is_ended and body.error is None)
