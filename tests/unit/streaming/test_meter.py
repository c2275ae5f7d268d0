"""What is counted of a body in transit, and when it shows."""

from __future__ import annotations

import pytest

from proxy.errors import ProxyError, ReaderStalled, Reset
from proxy.exchange import Stream
from proxy.streaming.meter import EventMeter, Meter, ended_by
from proxy.streaming.sse import SseScanner
from proxy.telemetry.metrics import Metrics
from tests.support.clock import FakeClock

EVENT = b"data: word\n\n"


class Rig:
    """An answer of the model `m` that a meter watches."""

    def __init__(self, *, has_events: bool = True, model: str = "m") -> None:
        self.clock = FakeClock()
        self.metrics = Metrics("0", ("m",))
        self.body = Stream(None)
        self.closed: list[Meter] = []
        self.meter = EventMeter(self.body, self.metrics.stream, self.closed.append, self.clock.now)
        self.meter.begin(model, self.clock.now(), SseScanner() if has_events else None)
        self.body.observe(self.meter)

    def feed(self, *pieces: bytes, every_s: float = 0.02) -> None:
        for piece in pieces:
            self.clock.advance(every_s)
            self.body.feed(piece)

    def gaps(self, model: str = "m") -> tuple[int, float]:
        series = self.metrics.models.of(model).event_gap
        return series.count, round(series.total, 6)

    def end(self) -> None:
        self.body.end()
        self.body.read_nowait()
        self.body.complete()


def test_the_gaps_between_events_and_their_pace() -> None:
    rig = Rig()
    rig.feed(*[EVENT] * 4)
    assert rig.gaps() == (3, 0.06)
    rig.end()
    series = rig.metrics.models.of("m")
    assert series.first_byte.total == pytest.approx(0.02)
    assert series.event_rate.count == 1
    assert series.event_rate.total == pytest.approx(50.0)


def test_they_count_for_others_once_the_backend_has_denied_the_model() -> None:
    rig = Rig(model="unknown")
    rig.feed(EVENT, EVENT)
    rig.metrics.models.settle("unknown", answered=False)
    rig.feed(EVENT)
    rig.end()
    rig.metrics.models.settle("unknown", answered=False)
    assert rig.metrics.models.admitted["other"].event_gap.count == 2


def test_half_an_event_is_none_and_two_at_once_have_one_gap() -> None:
    rig = Rig()
    rig.feed(b"data: wo", b"rd\n\n", b"data: x\n\ndata: y\n\n")
    rig.end()
    assert rig.gaps() == (1, 0.02)
    assert rig.metrics.models.of("m").event_rate.total == pytest.approx(100.0)


class Sink:
    """Writes down what it is given."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.taken.append(data)

    def write_chunk(self, chunk: bytes) -> None:
        self.taken.append(chunk)

    def finish(self, error: ProxyError | None) -> None:
        self.taken.append(b"end")


def test_what_passes_in_chunks_is_counted_without_their_framing() -> None:
    rig, sink = Rig(), Sink()
    chunk = b"c\r\n%b\r\n" % EVENT
    rig.feed(EVENT)
    rig.body.attach_chunks(sink)
    rig.clock.advance(0.02)
    rig.body.feed_chunk(EVENT, chunk)
    rig.body.detach()
    rig.clock.advance(0.02)
    rig.body.feed_chunk(EVENT, chunk)
    assert sink.taken == [EVENT, chunk]
    assert rig.gaps() == (2, 0.04)
    pieces = rig.metrics.streaming.pieces["response"]
    assert (pieces.count, pieces.total) == (3, 3.0 * len(EVENT))
    assert (rig.body.delivered, rig.body.read_nowait()) == (2 * len(EVENT), EVENT)


def test_what_has_no_events_has_no_gaps() -> None:
    rig = Rig(has_events=False)
    rig.feed(b"abc", b"defg")
    rig.end()
    assert rig.gaps() == (0, 0.0)
    assert rig.metrics.models.of("m").first_byte.count == 1
    pieces = rig.metrics.streaming.pieces["response"]
    assert (pieces.count, pieces.total) == (2, 7.0)


def test_a_single_event_has_no_pace() -> None:
    rig = Rig()
    rig.feed(EVENT)
    rig.end()
    assert rig.metrics.models.of("m").event_rate.count == 0
    assert rig.closed == [rig.meter]


def test_an_upload_is_counted_too() -> None:
    metrics = Metrics("0")
    body = Stream(None)
    closed: list[Meter] = []
    meter = Meter(body, "request", metrics.stream, closed.append)
    body.observe(meter)
    body.feed(b"abc")
    body.abandon(ReaderStalled())
    assert metrics.streaming.pieces["request"].total == 3
    assert metrics.streaming.interrupted == {("request", "proxy"): 1}
    assert metrics.streaming.stalls == 1
    assert closed == [meter]


def test_who_ended_it() -> None:
    whole, left, broken, given_up = (Stream(None) for _ in range(4))
    whole.end()
    whole.complete()
    left.abandon()
    broken.fail(Reset())
    given_up.abandon(ReaderStalled())
    assert [ended_by(body) for body in (whole, left, broken, given_up)] == ["", "client", "upstream", "proxy"]
    assert ended_by(left, is_upload=True) == "upstream"
