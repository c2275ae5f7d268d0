"""Flow control windows (RFC 9113 §5.2, §6.9), one pair for each stream and one for the connection.

Theory of operation
-------------------
A window is a number of DATA bytes that one side may still send. `SendWindow` is what the peer lets us send:
it shrinks with each DATA frame, grows with WINDOW_UPDATE, and moves, possibly below zero, when the peer
changes SETTINGS_INITIAL_WINDOW_SIZE. It never passes 2^31-1.

`ReceiveWindow` is what we let the peer send. `take` books what arrived, padding included, and refuses more
than was granted. `credit` books what its consumer is done with; the peer hears of it only once half the
window is owed, so that a stream of small messages does not cost a WINDOW_UPDATE for each. A consumer that
stops crediting stops its sender after one window: that is the whole coupling of a slow reader to a fast
writer.

Small bodies never reach the half: a unary call whose request fits half a window is answered without any
WINDOW_UPDATE for its stream.
"""

from __future__ import annotations

from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.frames import MAX_WINDOW

__all__ = ("ReceiveWindow", "SendWindow")


class SendWindow:
    """Bytes of DATA that the peer still accepts on `stream_id` (0: the connection)."""

    __slots__ = ("left", "stream_id")

    def __init__(self, left: int, stream_id: int = 0) -> None:
        self.left = left
        self.stream_id = stream_id

    def open(self, increment: int) -> None:
        """The peer sent WINDOW_UPDATE; too much of it costs the stream, or the connection (§6.9.1)."""
        if self.left + increment > MAX_WINDOW:
            error = StreamError if self.stream_id else SessionError
            raise error(ErrorCode.FLOW_CONTROL_ERROR, "window grows over 2^31-1", self.stream_id)
        self.left += increment

    def shift(self, delta: int) -> None:
        """The peer changed the initial window of all streams (§6.9.2)."""
        if self.left + delta > MAX_WINDOW:
            raise SessionError(
                ErrorCode.FLOW_CONTROL_ERROR, "initial window grows over 2^31-1", self.stream_id
            )
        self.left += delta


class ReceiveWindow:
    """Bytes of DATA that we still accept on `stream_id` (0.

    The connection); `size` bytes when nothing is owed.
    """

    __slots__ = ("_owed", "left", "size", "stream_id")

    def __init__(self, size: int, stream_id: int = 0) -> None:
        self.size = size
        self.left = size
        self.stream_id = stream_id
        self._owed = 0

    def take(self, count: int) -> None:
        """The peer sent `count` bytes; more than was granted costs the stream, or the connection."""
        self.left -= count
        if self.left < 0:
            error = StreamError if self.stream_id else SessionError
            raise error(ErrorCode.FLOW_CONTROL_ERROR, f"{-self.left} bytes over the window", self.stream_id)

    def credit(self, count: int) -> int:
        """`count` bytes were consumed; returns the increment to announce now, often 0."""
        self._owed += count
        if self._owed * 2 < self.size:
            return 0
        increment, self._owed = self._owed, 0
        self.left += increment
        return increment

    def resize(self, size: int) -> None:
        """Our own initial window changed and the peer knows."""
        self.left += size - self.size
        self.size = size
