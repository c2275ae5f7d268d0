"""Passing a body on as DATA frames, at the pace of the peer's windows and socket.

Owned by a link, for one stream and as long as `run`. It is the body's `PromptSink`: a piece becomes frames
within the read that brought it, uncopied where it is large, and leaves at the end of that read or with the
flush of that turn of the loop. What the stream's window does
not let through waits in the session's queue, one piece at most, and while it does, or while the socket is
full, the body is held: its watermarks pause whoever produces it.

It waits for the body's end. It ends with it, with the body's own error, when the stream is gone, or when the
peer takes nothing for too long: then the stream is reset, and the connection lives on. A timer exists only
while the peer is being waited for. Timers are the loop's own, since a stall is a matter of the real peer.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from proxy.http2.errors import ErrorCode
from proxy.kernel_buffers import unacknowledged
from proxy.stall import StallJudge

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from proxy.exchange import Headers, Stream
    from proxy.http2.session import Session

__all__ = ("BodyRelay", "RelayLink")


class RelayLink(Protocol):
    """The connection, as a relay sees it."""

    is_open: bool

    @property
    def session(self) -> Session:
        """Where frames are made."""

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Where they go."""

    @property
    def is_full(self) -> bool:
        """Whether the socket takes no more for now."""

    def wake(self) -> None:
        """Something was sent on the session."""

    def flush(self) -> None:
        """Write it now."""

    def send_trailers(self, stream_id: int, trailers: Headers) -> bool:
        """End the stream with these fields."""

    def stalled(self, body: Stream) -> None:
        """The peer took nothing of `body` for too long: nobody reads it any more."""


class BodyRelay:
    """Passes `body` on as the rest of the stream `stream_id`.

    A peer that takes nothing for `stall_s` seconds, or for what `body` says if that is less, loses the
    stream.
    """

    __slots__ = ("_body", "_done", "_is_held", "_link", "_loop", "_stall_s", "_stream_id", "_timer")

    def __init__(self, link: RelayLink, stream_id: int, body: Stream, stall_s: float) -> None:
        self._link = link
        self._stream_id = stream_id
        self._body = body
        self._stall_s = min(stall_s, body.stall_s)
        self._is_held = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[bool] = self._loop.create_future()

    async def run(self) -> bool:
        """Relay to the end, trailers included; False when the stream was gone before.

        Raises what the body raises. Whoever calls sees to it that the body is abandoned in the end.
        """
        try:
            self._body.attach_prompt(self)
            is_sent = await self._done
        finally:
            self._body.detach()
            if self._timer is not None:
                self._timer.cancel()
        if is_sent:
            self._body.complete()
        return is_sent

    # ------------------------------------------------------------- PromptSink of the body
    def write(self, data: bytes | memoryview) -> None:
        """Pass `data` on; to nobody when the stream is gone."""
        link = self._link
        if link.is_full and isinstance(data, memoryview):
            data = bytes(data)  # the flush will have to wait
        if not link.session.send_data(self._stream_id, data):
            self._settle(is_sent=False)
            return
        link.wake()
        queued = link.session.queued(self._stream_id)
        if queued or link.is_full:
            self._hold(queued)

    def write_parts(self, parts: list[bytes | memoryview], size: int) -> bool:
        """Pass all `parts` on, if that needs no waiting."""
        link = self._link
        if link.is_full or not link.session.send_parts(self._stream_id, parts, size):
            return False
        link.wake()
        return True

    def flush(self) -> None:
        """The read is over: what it brought leaves, or with what else comes in this turn if it is little."""
        if self._link.session.is_bulky:
            self._link.flush()

    def finish(self, error: ProxyError | None) -> None:
        """The body is over and all of it was sent."""
        if self._done.done():
            return
        if error is not None:
            self._done.set_exception(error)
            return
        link, trailers = self._link, self._body.trailers
        if trailers:
            is_sent = link.send_trailers(self._stream_id, trailers)
        else:
            is_sent = link.session.send_data(self._stream_id, b"", end=True)
        link.wake()
        self._settle(is_sent=is_sent)

    # ------------------------------------------------------------- what the link says
    def resume(self) -> None:
        """The window or the socket opened, or one of them is gone."""
        link = self._link
        if not link.is_open or not link.session.is_live(self._stream_id):
            self._settle(is_sent=False)
        elif self._is_held and not link.is_full and not link.session.queued(self._stream_id):
            self._is_held = False
            self._body.go_on()

    # ------------------------------------------------------------- internals
    def _hold(self, queued: int) -> None:
        self._is_held = True
        self._body.hold(max(queued, 1))
        if self._timer is None and self._stall_s < math.inf:
            judge = StallJudge(self._stall_s)
            self._timer = self._loop.call_at(judge.next_look(self._loop.time()), self._look, judge)

    def _look(self, judge: StallJudge) -> None:
        self._timer = None
        if not self._is_held or self._done.done():
            return
        if not judge.has_stalled(self._taken()):
            self._timer = self._loop.call_at(judge.next_look(self._loop.time()), self._look, judge)
            return
        self._link.session.reset(self._stream_id, ErrorCode.CANCEL)
        self._link.wake()
        self._link.stalled(self._body)
        self._settle(is_sent=False)

    def _taken(self) -> int:
        """What the peer has let through, by its window if that is what is shut, else by its socket."""
        queued = self._link.session.queued(self._stream_id)
        return self._body.delivered - (queued or unacknowledged(self._link.transport))

    def _settle(self, *, is_sent: bool) -> None:
        if not self._done.done():
            self._done.set_result(is_sent)
