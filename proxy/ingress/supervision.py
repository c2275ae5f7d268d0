"""Is the client of a connection still there, and does it keep up? The part that the server's timers ask.

Two questions come from outside, because nothing on the connection itself would raise them. `inspect`, on
every scan: does the client send and take what it should (`proxy.ingress.patience`)? `look`, while its FIN
leaves open whether it left, or while nobody reads from it: is it gone (`proxy.ingress.presence`)? Neither
waits for anything.

The layer between `proxy.ingress.answers`, which sends, and `proxy.ingress.http.ClientConnection`, which
receives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proxy.errors import RequestTimeout
from proxy.exchange import Stream
from proxy.ingress.answers import AnsweringConnection
from proxy.ingress.headers import interim_head

if TYPE_CHECKING:
    import asyncio

    from proxy.ingress.parser import Arrival, RequestParser
    from proxy.ingress.patience import Patience, Phase
    from proxy.ingress.server import HttpServer

__all__ = ("SupervisedConnection",)


class SupervisedConnection(AnsweringConnection):
    """See the module's text. `_arrivals` wait to be served, `_serving` is what is being served."""

    __slots__ = (
        "_arrivals",
        "_has_challenged",
        "_has_eof",
        "_has_fin",
        "_is_doubtful",
        "_is_held",
        "_patience",
        "_requests",
        "_serving",
    )

    _requests: RequestParser
    _patience: Patience

    def __init__(self, server: HttpServer, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop)
        self._arrivals: deque[Arrival] = deque()
        self._serving: Arrival | None = None
        self._is_held = False  # reading is paused for a slow backend
        self._has_eof = False  # the client's FIN was read
        self._has_fin = False  # and, before that, seen to have come
        self._has_challenged = False
        self._is_doubtful = False  # a FIN came, and the kernel does not know the client's end

    def inspect(self, now: float) -> None:
        """Judge whether the client keeps up."""
        transport = self.transport
        if transport is None:
            return
        action = self._patience.judge(
            now,
            self._phase(),
            self._request_count,
            received=self._requests.received,
            unsent=0 if self._relay is not None else transport.get_write_buffer_size(),
        )
        if action == "abort":
            transport.abort()
        elif action == "close":
            self.force_close()
        elif action == "refuse":
            self._requests.break_off(RequestTimeout("the request did not arrive in time"))
            self._wake()

    def _phase(self) -> Phase:
        serving = self._serving
        if serving is None:
            if self._requests.is_in_head:
                return "head"
            return "idle" if self._requests.is_idle and not self._arrivals else "busy"
        body = serving.call.body
        is_awaited = isinstance(body, Stream) and not body.is_ended and not serving.head.upgrade
        is_stopped = self._is_held or self._has_answered
        if serving.head.expects_continue and not self._requests.received:
            is_stopped = True
        return "body" if is_awaited and not is_stopped else "busy"

    def look(self, *, is_deep: bool) -> bool:
        """Find out whether the client is gone, when its FIN leaves that open or nobody reads from it.

        False when there is nothing to watch any more.
        """
        transport = self.transport
        if transport is None or not (self._has_eof or self._is_held or self._buffer_paused):
            return False
        if self._is_doubtful:
            self._is_doubtful = False
            self._challenge(transport)
            return True
        glance = self._server.glance(transport)
        is_news = glance == "half-closed" and not self._has_fin
        self._has_fin = self._has_fin or is_news
        state = self._server.peer_state(transport) if is_deep or is_news else "unknown"
        if glance == "broken" or state == "gone":
            transport.abort()
        elif is_deep and state == "unknown":
            self._is_doubtful = self._has_eof and not self._has_challenged
        return True

    def _wake(self) -> None:
        """Let the request loop look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _challenge(self, transport: asyncio.Transport) -> None:
        """Make a client on another machine show whether it is there: a closed one answers any byte with a
        reset.

        An interim answer says nothing and may come at any time (RFC 9110 §15.2). Once the final answer has
        begun there is no such byte, and a client that stops sending then is taken to have left.
        """
        serving = self._serving
        self._has_challenged = True
        if serving is None or serving.head.upgrade:
            return
        if self._has_answered:
            transport.abort()
        elif serving.call.http_version > 10:
            transport.write(interim_head(100, ()))
