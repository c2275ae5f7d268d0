"""The streams of one connection and their states (RFC 9113 §5.1).

Theory of operation
-------------------
A stream is live from its opening until both sides have said END_STREAM or either has said RST_STREAM; only
live streams take memory. Of the six states of the RFC two booleans remain, `local_closed` and
`remote_closed`, since nothing is ever pushed here: the reserved states cannot occur.

Of closed streams two short memories are kept. Frames that were on the way when *we* reset a stream must be
ignored, so the identifiers of the last resets are remembered; a peer that still sends on an older one is
treated as one that sends on a finished stream, which is what the RFC lets us assume after a while. The last
finished identifiers serve only to tell the peer STREAM_CLOSED from PROTOCOL_ERROR."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from proxy.http2.flow import ReceiveWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("State", "Stream", "Streams")

State = Literal["idle", "open", "half-closed (local)", "half-closed (remote)", "closed"]

_REMEMBERED_RESETS: Final = 1024
_REMEMBERED_ENDS: Final = 64


class Stream(ReceiveWindow):
    """One live stream, with what the peer may send on it; `send_left` is what we may send, in bytes.

    `content_left` counts a declared content-length down, in bytes (-1: none was declared). `queue` holds what
    waits for a window, None when nothing does; `queued` is its bytes. `extra` is by how much the window was
    widened. `tail` is what follows the queue: None when more data may come, b"" for a bare END_STREAM, else a
    block of trailers.
    """

    __slots__ = (
        "content_left",
        "extra",
        "has_head",
        "id",
        "is_head_request",
        "local_closed",
        "queue",
        "queued",
        "remote_closed",
        "send_left",
        "tail",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_left = send_window
        self.size = self.left = receive_window
        self.owed = 0
        self.extra = 0
        self.local_closed = False
        self.remote_closed = False
        self.has_head = False
        self.is_head_request = False
        self.content_left = -1
        self.queue: deque[memoryview] | None = None
        self.queued = 0
        self.tail: bytes | None = None


class Streams:
    """The live streams by identifier, and what is remembered of the others.

    `spare` is how many bytes may still be spent on wider windows; a stream's share comes back at its end.
    `last_peer_id` is the highest identifier that the peer has used, `next_own_id` the one we use next.
    """

    __slots__ = ("_ended", "_is_client", "_reset", "ended", "last_peer_id", "live", "next_own_id", "spare")

    def __init__(self, *, is_client: bool, spare: int = 0) -> None:
        self.spare = spare
        self.live: dict[int, Stream] = {}
        self.last_peer_id = 0
        self.next_own_id = 1 if is_client else 2
        self.ended = 0
        self._is_client = is_client
        self._reset: dict[int, None] = {}
        self._ended: deque[int] = deque(maxlen=_REMEMBERED_ENDS)

    def close_local(self, stream: Stream) -> None:
        """We have sent END_STREAM."""
        stream.local_closed = True
        if stream.remote_closed:
            self._retire(stream)

    def close_remote(self, stream: Stream) -> None:
        """The peer has sent END_STREAM."""
        stream.remote_closed = True
        if stream.local_closed:
            self._retire(stream)

    def widen(self, stream: Stream, widest: int) -> int:
        """Double the stream's window within bounds; by how many bytes it has grown."""
        more = min(stream.size, widest - stream.size, self.spare)
        if more <= 0:
            return 0
        self.spare -= more
        stream.extra += more
        stream.resize(stream.size + more)
        return more

    def drop(self, stream_id: int) -> None:
        """The peer has reset the stream."""
        self._remove(stream_id)
        self._ended.append(stream_id)

    def reset(self, stream_id: int) -> None:
        """We have reset the stream: what is still on its way is to be ignored."""
        self._remove(stream_id)
        if len(self._reset) >= _REMEMBERED_RESETS:
            del self._reset[next(iter(self._reset))]
        self._reset[stream_id] = None

    def is_idle(self, stream_id: int) -> bool:
        """Whether nobody has used this identifier yet."""
        if self._is_own(stream_id):
            return stream_id >= self.next_own_id
        return stream_id > self.last_peer_id

    def was_reset(self, stream_id: int) -> bool:
        """Whether we have reset the stream lately."""
        return stream_id in self._reset

    def has_ended(self, stream_id: int) -> bool:
        """Whether the stream is known to have been used and finished."""
        return stream_id in self._ended

    def above(self, stream_id: int) -> Sequence[int]:
        """Live streams of ours with a higher identifier."""
        return [live for live in self.live if live > stream_id and self._is_own(live)]

    def state(self, stream_id: int) -> State:
        """The state as RFC 9113 names it."""
        stream = self.live.get(stream_id)
        if stream is None:
            return "idle" if self.is_idle(stream_id) else "closed"
        if stream.local_closed:
            return "half-closed (local)"
        return "half-closed (remote)" if stream.remote_closed else "open"

    def _is_own(self, stream_id: int) -> bool:
        return (stream_id & 1 == 1) is self._is_client

    def _remove(self, stream_id: int) -> None:
        stream = self.live.pop(stream_id, None)
        if stream is not None:
            self.spare += stream.extra

    def _retire(self, stream: Stream) -> None:
        del self.live[stream.id]
        self.spare += stream.extra
        self.ended += 1
        self._ended.append(stream.id)
