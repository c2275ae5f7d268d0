"""Writing answers to one client: the part of a connection that sends.

A whole answer leaves as one prepared buffer. A streamed one is relayed as it comes, read no faster than the
client takes it; one that breaks off ends the connection with a reset, never as if it were whole. After
``101`` the backend's bytes are relayed raw.

The layer between aiohttp's `RequestHandler`, which has the transport and its write flow control, and
`proxy.ingress.http.ClientConnection`, which has the requests.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp.web_protocol import RequestHandler

from proxy.errors import ProxyError
from proxy.exchange import Stream
from proxy.ingress.headers import body_allowed, interim_head, timing_fields
from proxy.ingress.websocket import GOING_AWAY, FrameCounter
from proxy.streaming.relay import Relay

if TYPE_CHECKING:
    from proxy.exchange import Call, Headers, Reply
    from proxy.ingress.parser import Arrival
    from proxy.ingress.server import HttpServer

__all__ = ("AnsweringConnection",)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for zero seconds
# Above this size the copy that joins head and body costs more than a second write.
_ONE_BUFFER: Final = 64 * 1024


class AnsweringConnection(RequestHandler):
    """See the module's text. `_has_answered` says that the final answer to what is being served has begun."""

    __slots__ = ("_frames", "_has_answered", "_has_said_goodbye", "_is_leaving", "_relay", "_server")

    def __init__(self, server: HttpServer, *, loop: asyncio.AbstractEventLoop) -> None:
        # No keep-alive timer of aiohttp's: the server's scan has one for all. access_log=None is how
        # aiohttp is told to keep no log of its own; its annotation does not know.
        super().__init__(server, loop=loop, keepalive_timeout=0, access_log=None)  # type: ignore[arg-type]
        self._server = server
        self._has_answered = False
        self._relay: Relay | None = None
        self._frames: FrameCounter | None = None  # of a WebSocket's tunnel
        self._is_leaving = False
        self._has_said_goodbye = False

    def _relay_interim(self, status: int, headers: Headers) -> None:
        if self.transport is not None and not self._has_answered:
            self.transport.write(interim_head(status, headers))

    def _write_reply(self, arrival: Arrival | None, reply: Reply, *, keep_alive: bool) -> None:
        transport = self.transport
        body = reply.body
        if transport is None or not isinstance(body, bytes):  # streams go through _stream_reply
            return
        head = self._head_of(arrival, reply, len(body), keep_alive=keep_alive)
        if arrival is not None and not body_allowed(arrival.head.method, reply.status):
            transport.write(head)
        elif len(body) <= _ONE_BUFFER:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def _head_of(
        self, arrival: Arrival | None, reply: Reply, length: int | None, *, keep_alive: bool
    ) -> bytes:
        write = self._server.heads.head
        if arrival is None:
            return write(None, reply, length, keep_alive=keep_alive)
        more = timing_fields(arrival.call) if arrival.head.wants_debug else b""
        return write(
            arrival.call, reply, length, keep_alive=keep_alive, request_id=arrival.request_id, more=more
        )

    async def _stream_reply(self, arrival: Arrival, reply: Reply, body: Stream, *, keep_alive: bool) -> bool:
        """Relay a body as it comes; a body that breaks off aborts the connection, never ends it cleanly."""
        body.account(self._server.ledger)
        call = arrival.call
        why: ProxyError | None = None
        try:
            transport = self.transport
            if transport is None:
                return False
            if not body_allowed(call.method, reply.status):
                transport.write(self._head_of(arrival, reply, body.length, keep_alive=keep_alive))
                return keep_alive
            is_chunked = body.length is None and call.http_version >= 11
            keep_alive = keep_alive and (is_chunked or body.length is not None)
            takes_trailers = arrival.head.wants_trailers or reply.header(b"trailer") is not None
            self._relay = Relay(
                body,
                transport,
                self._server.clock,
                is_chunked=is_chunked,
                takes_trailers=takes_trailers,
                stall_s=self._server.timeouts.write_stall,
            )
            await self._relay.run(self._head_of(arrival, reply, body.length, keep_alive=keep_alive))
        except ProxyError as error:
            why = error
            if not (body.has_last_word and is_chunked):
                self._reset()
            return False
        finally:
            self._relay = None
            body.abandon(why)
        return keep_alive

    def pause_writing(self) -> None:
        """The kernel takes no more: neither does the relay."""
        super().pause_writing()
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        """The kernel has caught up."""
        super().resume_writing()
        if self._relay is not None:
            self._relay.resume()

    async def _drained(self) -> None:
        """Until the client has taken most of what was written; that counts as held in memory."""
        ledger, unsent = self._server.ledger, 0
        if self.transport is not None:
            unsent = self.transport.get_write_buffer_size()
        ledger.used += unsent
        try:
            await self._drain_helper()
        finally:
            ledger.used -= unsent

    async def _tunnel(self, call: Call, reply: Reply, body: Stream) -> None:
        """Carry the backend's bytes to the client and close each half when its sender does.

        The client's bytes go the other way through `call.body`, without us.
        """
        body.account(self._server.ledger)
        self._frames = FrameCounter() if call.upgrade.lower() == b"websocket" else None
        try:
            if self.transport is not None:
                self.transport.write(self._server.heads.head(call, reply, None, keep_alive=True))
            await self._relay_raw(body)
            if (
                self.transport is not None
                and self.transport.can_write_eof()
                and isinstance(call.body, Stream)
            ):
                if not self._has_said_goodbye:
                    self._close_our_half(self.transport)
                client_is_done = asyncio.Event()
                call.body.on_close(client_is_done.set)
                await client_is_done.wait()
        except ProxyError:
            self._reset()
        finally:
            self._frames = None
            body.abandon()

    async def _relay_raw(self, body: Stream) -> None:
        """Relay until the backend's end; once the client was told to go, what still comes is for nobody."""
        while True:
            if self.writing_paused:
                await self._drained()
            data = await body.read()
            transport, frames = self.transport, self._frames
            if transport is None or not data:
                return
            if self._has_said_goodbye:
                continue
            if frames is not None:
                data = data[: frames.feed(data, only_one=self._is_leaving)]
            transport.write(data)
            if self._is_leaving:
                self.leave()

    def leave(self) -> None:
        """The proxy shuts down: tell the client of a WebSocket, as soon as no frame is in hand."""
        self._is_leaving = True
        frames, transport = self._frames, self.transport
        if frames is None or transport is None or not frames.is_between or self._has_said_goodbye:
            return
        self._has_said_goodbye = True
        transport.write(GOING_AWAY)
        self._close_our_half(transport)

    @staticmethod
    def _close_our_half(transport: asyncio.Transport) -> None:
        """FIN, where the transport has one."""
        if transport.can_write_eof():
            with suppress(OSError):  # asyncio's own loop tells here that the client has gone
                transport.write_eof()

    def _reset(self) -> None:
        """Close by RST: a FIN would end a close-delimited body as if it were whole."""
        transport = self.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
