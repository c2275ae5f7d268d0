"""Flow control windows (RFC 9113 §5.2, §6.9), one pair for each stream and one for the connection.

Theory of operation
-------------------
A window is a number of DATA bytes that one side may still send. What the peer lets us send shrinks with each
DATA frame, grows with WINDOW_UPDATE (`grown`), and moves, possibly below zero, when the peer changes
SETTINGS_INITIAL_WINDOW_SIZE (`moved`). It never passes 2^31-1.

`ReceiveWindow` is what we let the peer send: the sender's view of it (`left`) shrinks with what arrives,
padding included, and below zero the peer has broken the rules (`overrun`). `credit` books what its consumer
is done with; the peer hears of it only once half the window is owed, so that a stream of small messages does
not cost a WINDOW_UPDATE for each. A consumer that stops crediting stops its sender after one window: that is
the whole coupling of a slow reader to a fast writer.

Small bodies never reach the half: a unary call whose request fits half a window is answered without any
WINDOW_UPDATE for its stream.

Windows are plain numbers on their owners, since each DATA frame touches four of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.frames import MAX_WINDOW

if TYPE_CHECKING:
    from proxy.http2.errors import Http2Error

__all__ = ("ReceiveWindow", "grown", "moved", "overrun")


def grown(left: int, increment: int, stream_id: int) -> int:
    """The window after WINDOW_UPDATE; too much of it costs the stream, or the connection (§6.9.1)."""
    if left + increment > MAX_WINDOW:
        error = StreamError if stream_id else SessionError
        raise error(ErrorCode.FLOW_CONTROL_ERROR, "window grows over 2^31-1", stream_id)
    return left + increment


def moved(left: int, delta: int, stream_id: int) -> int:
    """The stream's window after the peer changed the initial one (§6.9.2)."""
    if left + delta > MAX_WINDOW:
        raise SessionError(ErrorCode.FLOW_CONTROL_ERROR, "initial window grows over 2^31-1", stream_id)
    return left + delta


def overrun(left: int, stream_id: int) -> Http2Error:
    """What becomes of a peer that sent more than was granted."""
    error = StreamError if stream_id else SessionError
    return error(ErrorCode.FLOW_CONTROL_ERROR, f"{-left} bytes over the window", stream_id)


class ReceiveWindow:
    """Bytes of DATA that we accept; `size` when nothing is owed, `left` by the peer's count."""

    __slots__ = ("left", "owed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self.owed = 0

    def credit(self, count: int) -> int:
        """`count` bytes were consumed; returns the increment to announce now, often 0."""
        self.owed += count
        if self.owed * 2 < self.size:
            return 0
        increment, self.owed = self.owed, 0
        self.left += increment
        return increment

    def resize(self, size: int) -> None:
        """Our own initial window changed and the peer knows."""
        self.left += size - self.size
        self.size = size
