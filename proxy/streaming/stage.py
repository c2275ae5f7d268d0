"""A stage between a backend's answer and its client: encodes it, keeps it alive, says why it broke off.

Owned by the answer that it changes; it exists only for answers of which the policy asks one of these
things. It is the source's `Sink` and the `Flow` of `out`, so it adds a call to each piece's way and no
wait: pauses pass through it in one direction, pieces in the other, both at once. What it adds of its own
stands between two events.

It ends with its source, or when `out` is abandoned. While heartbeats are on it holds one timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Stream
from proxy.streaming.sse import COMMENT, error_event

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from proxy.streaming.compression import Encoder
    from proxy.streaming.sse import Scanner
    from proxy.timing import Clock, Timer

__all__ = ("Stage",)


class Stage:
    """Feeds `out` with what it makes of its source.

    `scanner` is given where the source is an event stream. Without it there are no heartbeats and no error
    event.
    """

    __slots__ = (
        "_clock",
        "_encoder",
        "_heard_at",
        "_heartbeat_s",
        "_scanner",
        "_source",
        "_tells",
        "_timer",
        "out",
    )

    def __init__(
        self,
        clock: Clock,
        *,
        encoder: Encoder | None = None,
        scanner: Scanner | None = None,
        heartbeat_s: float = 0.0,
        tells_errors: bool = False,
    ) -> None:
        self.out = Stream(self)
        self._source: Stream | None = None
        self._clock = clock
        self._encoder = encoder
        self._scanner = scanner
        self._heartbeat_s = heartbeat_s if scanner is not None else 0.0
        self._tells = tells_errors and scanner is not None
        self._heard_at = clock.now()
        self._timer: Timer | None = None

    def start(self, source: Stream) -> None:
        """Take everything from `source`."""
        self._source = source
        self.out.stall_s = source.stall_s
        self.out.chunk = source.chunk
        if self._timer is None:
            self._arm()
        if self.out.is_paused:
            source.hold(1)
        source.attach(self)

    def wait(self) -> None:
        """There will be a source; until then only heartbeats pass."""
        self._feed(COMMENT)
        self._arm()

    def say(self, data: bytes) -> None:
        """There will be no source, because `data` is all there is."""
        self._cancel_timer()
        self._feed(data)
        self.out.end()

    def give_up(self, error: ProxyError) -> None:
        """There will be no source, because of `error`."""
        self._cancel_timer()
        self._end(error)

    # ------------------------------------------------------------- Sink of the source
    def write(self, data: bytes) -> None:
        """Pass `data` on, encoded if need be."""
        if self._scanner is not None:
            self._scanner.feed(data)
            self._heard_at = self._clock.now()
        self._feed(data)

    def finish(self, error: ProxyError | None) -> None:
        """The source is over."""
        self._cancel_timer()
        source, self._source = self._source, None
        if source is None:
            return
        if error is None:
            source.complete()
            self._feed_rest()
            self.out.end(source.trailers)
            return
        source.abandon()
        self._end(error)

    # ------------------------------------------------------------- Flow of `out`
    def pause(self) -> None:
        """The client is slow."""
        if self._source is not None:
            self._source.hold(1)

    def resume(self) -> None:
        """The client has caught up."""
        if self._source is not None:
            self._source.go_on()

    def abandon(self) -> None:
        """The client left."""
        self._cancel_timer()
        source, self._source = self._source, None
        if source is not None:
            source.abandon(self.out.left_because)

    # ------------------------------------------------------------- internals
    def _end(self, error: ProxyError) -> None:
        if self._tells and self._scanner is not None:
            # An event that was torn in two ends here: an empty line keeps its half from swallowing ours.
            self._feed((b"" if self._scanner.is_between else b"\n\n") + error_event(error.reason, str(error)))
            self._feed_rest()
            self.out.has_last_word = True
        self.out.fail(error)

    def _feed(self, data: bytes) -> None:
        self.out.feed(data if self._encoder is None else self._encoder.feed(data))

    def _feed_rest(self) -> None:
        if self._encoder is not None:
            rest = self._encoder.finish()
            if rest:
                self.out.feed(rest)

    def _arm(self) -> None:
        if self._heartbeat_s:
            self._timer = self._clock.call_at(self._heard_at + self._heartbeat_s, self._beat)

    def _beat(self) -> None:
        now = self._clock.now()
        if now - self._heard_at >= self._heartbeat_s:
            self._heard_at = now
            if self._scanner is not None and self._scanner.is_between and not self.out.buffered:
                self._feed(COMMENT)
        self._arm()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
