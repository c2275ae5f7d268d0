"""Every body in transit, and what the policy makes of it.

Owned by the app, called by the pipeline: once for a request whose body is still arriving, once for an
answer. It sets the watermarks, the budget and the meter of each, and puts a stage before the answers that
ask for one. It waits for nothing and holds what is open only to show it in the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Stream
from proxy.streaming.compression import choose_coding, encoded_headers, encoder, may_encode
from proxy.streaming.early import EarlyAnswer
from proxy.streaming.flow import high_water
from proxy.streaming.meter import EventMeter, Meter
from proxy.streaming.sse import SseScanner, media_type, scanner_for
from proxy.streaming.stage import Stage
from proxy.streaming.wish import asks_for_events

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from proxy.exchange import Call, Ledger, Reply
    from proxy.streaming.policy import StreamPolicy
    from proxy.telemetry.metrics import StreamRecorder
    from proxy.timing import Clock

__all__ = ("Streams",)

_NO_BUFFERING = (b"X-Accel-Buffering", b"no")


class Streams:
    """Opens bodies under `policy` (by model name) and within the budget of `ledger`."""

    __slots__ = ("_awaited", "_clock", "_ledger", "_open", "_policy", "_record")

    def __init__(
        self, policy: Callable[[str], StreamPolicy], record: StreamRecorder, clock: Clock, ledger: Ledger
    ) -> None:
        self._policy = policy
        self._record = record
        self._clock = clock
        self._ledger = ledger
        self._open: set[Meter] = set()
        self._awaited: set[asyncio.Task[Reply]] = set()

    # ------------------------------------------------------------- for the pipeline
    def request(self, body: Stream, model: str) -> None:
        """The body of a request for `model` is on its way."""
        self._bound(body, self._policy(model))
        self._meter(Meter(body, "request", self._record, self._closed))

    def reply(self, call: Call, model: str, reply: Reply, body: Stream) -> None:
        """`reply`, to `call`, is to be passed on as it comes: may change its headers and its body."""
        policy = self._policy(model)
        media = media_type(reply.headers)
        self._measure(call, model, body, media)
        is_events = media == b"text/event-stream"
        if is_events and reply.header(b"x-accel-buffering") is None:
            reply.headers = (*reply.headers, _NO_BUFFERING)
        if call.method == b"HEAD" or reply.status == 101:
            return
        coding = None
        if policy.compress == "on" and may_encode(reply.status, reply.headers, media):
            coding = choose_coding(call.header(b"accept-encoding"))
            reply.headers = encoded_headers(reply.headers, coding)
        scanner = SseScanner() if is_events and (policy.heartbeat or policy.error_event) else None
        if coding is not None or scanner is not None:
            stage = Stage(
                self._clock,
                encoder=encoder(coding) if coding is not None else None,
                scanner=scanner,
                heartbeat_s=policy.heartbeat,
                tells_errors=policy.error_event,
            )
            self._bound(stage.out, policy)
            reply.body = stage.out
            stage.start(body)

    def may_begin_early(self, call: Call, model: str) -> bool:
        """Whether the answer to `call` may begin while `model` is being loaded."""
        return self._policy(model).loading_heartbeat > 0 and asks_for_events(call)

    async def begin_early(self, call: Call, model: str, work: Coroutine[None, None, Reply]) -> Reply:
        """The answer that `work` brings, or one that begins before it; raises what `work` raises by then."""
        policy, clock = self._policy(model), self._clock
        span_s = policy.loading_heartbeat
        stage = Stage(clock, scanner=SseScanner(), heartbeat_s=span_s, tells_errors=True)
        self._bound(stage.out, policy)
        stage.out.stall_s = policy.stall

        def begun(reply: Reply, body: Stream) -> None:
            self._measure(call, model, body, media_type(reply.headers))

        reply = await EarlyAnswer(work, stage, begun, self._awaited).reply(clock, span_s)
        if isinstance(reply.body, Stream) and reply.body is not stage.out:
            self.reply(call, model, reply, reply.body)
        return reply

    # ------------------------------------------------------------- for the metrics
    def paused(self) -> Iterable[tuple[tuple[str], float]]:
        """The number of producers that wait, by direction."""
        for direction in ("request", "response"):
            waiting = [m for m in self._open if m.direction == direction and m.body.is_paused]
            yield (direction,), len(waiting)

    # ------------------------------------------------------------- internals
    def _measure(self, call: Call, model: str, body: Stream, media: bytes) -> None:
        policy = self._policy(model)
        meter = EventMeter(body, self._record, self._closed, self._clock.now)
        meter.begin(model, call.started_at, scanner_for(media))
        self._meter(meter)
        self._bound(body, policy)
        body.stall_s = policy.stall
        body.chunk = policy.chunk

    def _bound(self, body: Stream, policy: StreamPolicy) -> None:
        high = high_water(policy.high_water, self._ledger.limit, len(self._open) + 1)
        body.limit(high, high // 4)
        body.account(self._ledger)

    def _meter(self, meter: Meter) -> None:
        self._open.add(meter)
        self._record.opened()
        meter.body.observe(meter)

    def _closed(self, meter: Meter) -> None:
        self._open.discard(meter)
        self._record.closed()
