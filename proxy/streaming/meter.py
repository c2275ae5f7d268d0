"""What is measured of one body in transit.

Owned by the `Streams` that opened it; it is the body's `Watch` and ends when the body closes. It runs
inside every piece's way through the proxy, so it holds what it counts in: no name is looked up for a token.
It counts in what all streams share, which is in the processor's cache; what belongs to one of a thousand
streams alone is not, and each line of it costs a token 50 ns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ReaderStalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.errors import ProxyError
    from proxy.exchange import Stream
    from proxy.streaming.sse import Scanner
    from proxy.telemetry.metrics import StreamRecorder
    from proxy.telemetry.series import ModelSeries

__all__ = ("EventMeter", "Meter", "culprit", "ended_by")


def culprit(error: ProxyError) -> str:
    """Whose doing `error` is: ``client``, ``upstream`` or ``proxy``."""
    return "client" if error.source == "downstream" else error.source


def ended_by(body: Stream, *, is_upload: bool = False) -> str:
    """Who broke off a closed `body`: ``client``, ``upstream`` or ``proxy``; empty when it was whole."""
    if body.error is not None:
        return culprit(body.error)
    if body.is_complete:
        return ""
    if body.left_because is not None:
        return "proxy"
    return "upstream" if is_upload else "client"


class Meter:
    """Counts pieces, bytes and pauses of `body`; `on_closed` is told of its end."""

    __slots__ = ("_on_closed", "_record", "_sizes", "body", "direction")

    def __init__(
        self, body: Stream, direction: str, record: StreamRecorder, on_closed: Callable[[Meter], None]
    ) -> None:
        self.body = body
        self.direction = direction
        self._record = record
        self._on_closed = on_closed
        self._sizes = record.pieces(direction)

    def passed(self, data: bytes | memoryview) -> None:
        """A piece arrived."""
        self._sizes.observe(len(data))

    def paused(self) -> None:
        """The producer waits for the reader."""
        self._record.paused(self.direction)

    def resumed(self) -> None:
        """The producer goes on."""

    def closed(self) -> None:
        """The body is over."""
        why = ended_by(self.body, is_upload=self.direction == "request")
        if why:
            self._record.interrupted(self.direction, why)
        if isinstance(self.body.left_because, ReaderStalled):
            self._record.stalled()
        self._on_closed(self)


class EventMeter(Meter):
    """Also the time to an answer's first byte and, with a `scanner`, the gaps between its events.

    Events per second are those of a finished stream from its first event to its last: a model's servers
    send one event for each token.
    """

    __slots__ = ("_count", "_first_at", "_last_at", "_model", "_now", "_scanner", "_series", "_started_at")

    def __init__(
        self,
        body: Stream,
        record: StreamRecorder,
        on_closed: Callable[[Meter], None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(body, "response", record, on_closed)
        self._series: ModelSeries | None = None  # once there was an event
        self._scanner: Scanner | None = None
        self._now = now
        self._last_at = 0.0
        self._count = 0
        self._model = ""
        self._started_at = 0.0
        self._first_at = 0.0

    def begin(self, model: str, started_at: float, scanner: Scanner | None) -> None:
        """The body answers a call for `model` whose head came at `started_at`."""
        self._model = model
        self._started_at = started_at
        self._scanner = scanner

    def passed(self, data: bytes | memoryview) -> None:
        """A piece arrived; this runs for each token."""
        self._sizes.observe(len(data))
        series, scanner = self._series, self._scanner
        if series is None or scanner is None:
            self._begun(data)
            return
        count = scanner.feed(data if isinstance(data, bytes) else bytes(data))
        if count:
            now = self._now()
            series.event_gap.observe(now - self._last_at)
            self._last_at = now
            self._count += count

    def _begun(self, data: bytes | memoryview) -> None:
        """There was no event before `data`."""
        now = self._now()
        if not self._last_at:
            self._record.first_byte(self._model, now - self._started_at)
            self._last_at = now
        if self._scanner is not None:
            self._count = self._scanner.feed(bytes(data))
            if self._count:
                self._series = self._record.series(self._model)
                self._first_at = self._last_at = now

    def closed(self) -> None:
        """The answer is over."""
        span_s = self._last_at - self._first_at
        if self._count > 1 and span_s > 0:
            self._record.pace(self._model, (self._count - 1) / span_s)
        super().closed()
