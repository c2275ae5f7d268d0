"""What a session tells its owner: each event is one fact about one stream, or about the connection."""

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


@dataclass(slots=True)
class RequestReceived(MessagePart):
    """A client opened a stream; `is_ended` when the request is whole.

    `data` is the first piece of the body, where it came in the same read; `timeout_s` and `own` are those of
    `RequestOpening`.
    """

    head: RequestHead
    is_ended: bool
    timeout_s: float | None = None
    own: Headers = ()
    data: bytes = b""


@dataclass(slots=True)
class ResponseReceived(MessagePart):
    """The answer began; `is_ended` when it is whole.

    `data` is the first piece of the body and `trailers` are what ended it, where they came in the same read.
    """

    head: ResponseHead
    is_ended: bool
    data: bytes = b""
    trailers: Headers = ()


@dataclass(slots=True)
class InterimReceived:
    """A 1xx head; the answer is still to come."""

    stream_id: int
    head: ResponseHead


class DataReceived(MessagePart):
    """What a read brought of a body.

    Its bytes must be given back by `Session.credit` once they are consumed.
    """

    __slots__ = ("is_ended", "pieces")

    def __init__(self, stream_id: int, data: Piece, is_ended: bool) -> None:  # noqa: FBT001 - as the others
        self.stream_id = stream_id
        self.pieces: list[Piece] = [data]
        self.is_ended = is_ended

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


@dataclass(slots=True)
class SessionEnded:
    """The peer broke the connection's rules: write what is left to send (GOAWAY is in it) and close."""

    error: SessionError


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
