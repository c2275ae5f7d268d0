"""What a session tells its owner: each event is one fact about one stream, or about the connection.

Those of every call are plain classes, since compiled ones are made by a C call; so are those with a field of
another module's class, which a compiled dataclass would need at import time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.exchange import Headers
    from proxy.http2.errors import SessionError
    from proxy.http2.frames import Piece
    from proxy.http2.headers import RequestHead, ResponseHead

__all__ = (
    "DataReceived",
    "Event",
    "GoawayReceived",
    "InterimReceived",
    "MessagePart",
    "PingAcked",
    "RequestReceived",
    "ResponseReceived",
    "SendQueueDrained",
    "SessionEnded",
    "SettingsChanged",
    "StreamReset",
    "TrailersReceived",
)


@dataclass(slots=True)
class MessagePart:
    """A head, a piece of body or the trailers of the message on a stream."""

    stream_id: int


class RequestReceived(MessagePart):
    """A client opened a stream; `is_ended` when the request is whole.

    `data` is the first piece of the body, where it came in the same read; `timeout_s` and `own` are those of
    `RequestOpening`.
    """

    __slots__ = ("data", "head", "is_ended", "own", "timeout_s")

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        timeout_s: float | None,
        own: Headers,
        data: bytes = b"",
        *,
        is_ended: bool,
    ) -> None:
        self.stream_id = stream_id
        self.head = head
        self.timeout_s = timeout_s
        self.own = own
        self.data = data
        self.is_ended = is_ended


class ResponseReceived(MessagePart):
    """The answer began; `is_ended` when it is whole.

    `data` is the first piece of the body and `trailers` are what ended it, where they came in the same read.
    """

    __slots__ = ("data", "head", "is_ended", "trailers")

    def __init__(
        self,
        stream_id: int,
        head: ResponseHead,
        data: bytes = b"",
        trailers: Headers = (),
        *,
        is_ended: bool,
    ) -> None:
        self.stream_id = stream_id
        self.head = head
        self.data = data
        self.trailers = trailers
        self.is_ended = is_ended


class InterimReceived:
    """A 1xx head; the answer is still to come."""

    __slots__ = ("head", "stream_id")

    def __init__(self, stream_id: int, head: ResponseHead) -> None:
        self.stream_id = stream_id
        self.head = head


class DataReceived(MessagePart):
    """What a read brought of a body.

    Its bytes must be given back by `Session.credit` once they are consumed. After a read of a view its
    `pieces` are views of what was read; `data` is a copy.
    """

    __slots__ = ("is_ended", "pieces")

    def __init__(self, stream_id: int, pieces: list[Piece], *, is_ended: bool) -> None:
        self.stream_id = stream_id
        self.pieces = pieces
        self.is_ended = is_ended

    @property
    def size(self) -> int:
        """Bytes in all its frames."""
        return len(self.pieces[0]) if len(self.pieces) == 1 else sum(map(len, self.pieces))

    @property
    def data(self) -> bytes:
        """The bytes of all its frames."""
        return bytes(self.pieces[0]) if len(self.pieces) == 1 else b"".join(self.pieces)


@dataclass(slots=True)
class TrailersReceived(MessagePart):
    """The body ended with these fields."""

    headers: Headers


@dataclass(slots=True)
class StreamReset:
    """A stream ended early.

    By the peer's RST_STREAM or GOAWAY (`by_peer`), or because the peer broke a rule.
    """

    stream_id: int
    code: int
    why: str
    by_peer: bool


@dataclass(slots=True)
class SendQueueDrained:
    """All that was queued for this stream has found its window."""

    stream_id: int


@dataclass(slots=True)
class SettingsChanged:
    """The peer's settings arrived and hold; the first one completes the handshake."""


@dataclass(slots=True)
class PingAcked:
    """The peer answered the ping with this payload."""

    payload: bytes


@dataclass(slots=True)
class GoawayReceived:
    """The peer takes no new streams. Those of ours above `last_stream_id` were reset before this event."""

    last_stream_id: int
    code: int
    debug: bytes


class SessionEnded:
    """The peer broke the connection's rules: write what is left to send (GOAWAY is in it) and close."""

    __slots__ = ("error",)

    def __init__(self, error: SessionError) -> None:
        self.error = error


Event = (
    RequestReceived
    | ResponseReceived
    | InterimReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | SendQueueDrained
    | SettingsChanged
    | PingAcked
    | GoawayReceived
    | SessionEnded
)
