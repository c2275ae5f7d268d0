"""Bounds on what a peer may cost us on one connection.

Theory of operation
-------------------
HTTP/2 lets a peer spend our CPU without sending anything of use. What it may announce is bounded by plain
numbers: streams at once, frame size, header list size, window sizes. What it may *repeat* is bounded by two
budgets, token buckets on the connection's own clock:

* `resets` pays for each stream that ends without its answer: streams the client cancels (rapid reset,
  CVE-2023-44487) and streams that we reset because of what the client sent (MadeYouReset, CVE-2025-8671), as
  both let a client start work without being held by the limit of streams at once, and header blocks for
  streams that we have reset, which have to be decoded all the same. An answered call pays one back.
* `control` pays for frames that carry nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown types, empty
  DATA, empty header fragments, and DATA of ours that a tiny window cut small. Each header block and each full
  DATA frame in either direction pays some back, so a busy connection that opens windows all day never runs
  dry, while one that does nothing else does within `control_burst` frames.

An empty budget ends the connection with ENHANCE_YOUR_CALM. CONTINUATION floods and HPACK bombs need no
budget: a header list of over `header_list` bytes costs its stream, since others on the connection (a gateway
may have multiplexed them) are not to blame; a block that has `HEADER_SLACK` times as many, before decoding or
after it, costs the connection. Each fragment without content draws on `control`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.http2.frames import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW

__all__ = ("HEADER_SLACK", "REFUND", "Budget", "Limits")

HEADER_SLACK: Final = 4
"""How much longer than allowed a header list may be until its peer is taken for hostile."""
REFUND: Final = 4.0
"""Tokens that one useful frame pays back to the `control` budget."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold and how often its peer may bother us."""

    streams: int = 100
    """Streams that the peer may have open at once."""
    frame_size: int = DEFAULT_FRAME_SIZE
    """Bytes of payload in one frame from the peer."""
    header_list: int = 64 << 10
    """Bytes of one header list, as the peer is told."""
    stream_window: int = DEFAULT_WINDOW
    """Bytes a stream may send before its consumer has taken any."""
    widest_window: int = 0
    """Bytes up to which a stream's window grows while its consumer takes all that comes; 0: it never does."""
    spare_window: int = 0
    """Bytes by which the windows of all streams together may be wider than `stream_window`."""
    connection_window: int = DEFAULT_WINDOW
    """Bytes all streams together may have on the way to us."""
    reset_burst: int = 1000
    """Streams ended without an answer before `reset_rate` counts."""
    reset_rate: float = 100.0
    """Streams ended without an answer per second, for ever."""
    control_burst: int = 2000
    """Frames without use before `control_rate` counts."""
    control_rate: float = 1000.0
    """Frames without use per second, for ever."""
    unsent: int = 10_000
    """Replies to control frames that may wait for a peer which does not read."""


class Budget:
    """A token bucket: `burst` tokens at once, `rate` more per second; `what` is named when it runs dry."""

    __slots__ = ("_burst", "_filled_at", "_rate", "tokens")

    def __init__(self, burst: int, rate: float) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._filled_at = 0.0
        self.tokens = self._burst

    def take(self, now: float) -> bool:
        """Pay one token; False when there is none.

        `tokens` may be raised by anyone who saw useful work; what exceeds the burst is cut here.
        """
        earned = self.tokens + (now - self._filled_at) * self._rate
        self._filled_at = now
        self.tokens = min(earned, self._burst) - 1.0
        return self.tokens >= 0.0
