"""The metrics page: accumulators, made into families, made into text a piece at a time.

The admin handler owns each scrape. A page with two hundred models is sixteen thousand lines and takes 100 ms
to write; in one go that would hold every request in the meantime, and a thread would not help, because it
competes for the same interpreter. So the text is made in pieces of a few hundred lines, and the event loop
gets a turn between two of them. A family's numbers are read in one go, so they agree with each other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Sample,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.telemetry.catalogue import CATALOGUE, PREFIX, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from proxy.telemetry.histogram import Histogram
    from proxy.telemetry.metrics import Labels, Metrics
    from proxy.telemetry.series import ModelSeries, UpstreamSeries


__all__ = ("MetricsCollector", "MetricsPage")

_EOF = b"# EOF\n"
_CHUNK_LINES = 256
_Value = TypeVar("_Value")
_Series = TypeVar("_Series")

if TYPE_CHECKING:
    _Rows = Iterable[tuple[Labels, _Value]]
    _Reader = Callable[[Metrics], _Rows[_Value]]


class MetricsCollector(Collector):
    """A `Metrics` as prometheus-client wants to see it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Each family of the catalogue that has anything to show."""
        for entry in CATALOGUE:
            family = self._family(entry)
            if family.samples:
                yield family

    def _family(self, entry: Metric) -> Family:
        name = PREFIX + entry.name
        if entry.kind == "histogram":
            return _histograms(name, entry, _HISTOGRAMS[entry.name](self._metrics))
        reader = _NUMBERS.get(entry.name)
        kind = CounterMetricFamily if entry.kind == "counter" else GaugeMetricFamily
        family = kind(name, entry.help, labels=entry.labels)
        rows = self._metrics.sampled(entry.name).items() if reader is None else reader(self._metrics)
        for labels, value in rows:
            family.add_metric(labels, value)
        return family


class MetricsPage:
    """Everything one app exposes: its own metrics, the process, the interpreter and its garbage collector."""

    def __init__(self, metrics: Metrics) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(MetricsCollector(metrics))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    async def render(self, accept: str) -> tuple[str, bytes]:
        """(content type, page) in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        chunks: list[bytes] = []
        for family in self.registry.collect():
            for chunk in _chunks(family, encode):
                chunks.append(chunk)
                await asyncio.sleep(0)
        if content_type.startswith("application/openmetrics-text"):
            chunks.append(_EOF)
        return content_type, b"".join(chunks)


class _Piece(Collector):
    """A collector of a part of one family."""

    def __init__(self, family: Family, samples: list[Sample]) -> None:
        self._part = Family(family.name, family.documentation, family.type, family.unit)
        self._part.samples = samples

    def collect(self) -> Iterable[Family]:
        return (self._part,)


def _chunks(family: Family, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    """The family's text, its head on the first chunk only and no end-of-page mark."""
    for start in range(0, len(family.samples), _CHUNK_LINES):
        piece = _Piece(family, family.samples[start : start + _CHUNK_LINES])
        text = encode(piece).removesuffix(_EOF)
        while start and text.startswith(b"# "):
            text = text.partition(b"\n")[2]
        yield text


def _histograms(name: str, entry: Metric, rows: _Rows[Histogram]) -> HistogramMetricFamily:
    """Those that observed anything; an empty one is twenty lines that say nothing."""
    family = HistogramMetricFamily(name, entry.help, labels=entry.labels)
    bounds = [*(str(float(bound)) for bound in entry.buckets), "+Inf"]
    for labels, histogram in rows:
        if histogram.count:
            buckets = list(zip(bounds, histogram.cumulative(), strict=True))
            family.add_metric(labels, buckets, histogram.total)
    return family


# ------------------------------------------------------------------ where each metric's numbers are
def _requests(metrics: Metrics) -> _Rows[float]:
    for (route, protocol, model), series in metrics.calls.items():
        for outcome, count in series.outcomes.items():
            if count:
                yield (protocol, route, model, outcome), count


def _durations(metrics: Metrics) -> _Rows[Histogram]:
    for (route, protocol, model), series in metrics.calls.items():
        yield (protocol, route, model), series.duration


def _isolations(metrics: Metrics) -> _Rows[float]:
    for model, series in metrics.models.admitted.items():
        if series.isolations:
            yield (model,), series.isolations


def _loads(metrics: Metrics) -> _Rows[float]:
    for model, series in metrics.models.admitted.items():
        for (cause, result), count in series.loads.items():
            yield (model, cause, result), count


def _cold_starts(metrics: Metrics) -> _Rows[float]:
    for model, series in metrics.models.admitted.items():
        if series.cold_starts:
            yield (model,), series.cold_starts


def _by_model(read: Callable[[ModelSeries], Histogram]) -> _Reader[Histogram]:
    return lambda metrics: (((name,), read(series)) for name, series in metrics.models.admitted.items())


def _by_upstream(read: Callable[[UpstreamSeries], _Value]) -> _Reader[_Value]:
    return lambda metrics: (((name,), read(series)) for name, series in metrics.upstreams.items())


def _by_model_and(read: Callable[[ModelSeries], Mapping[str, int]]) -> _Reader[float]:
    return lambda metrics: _spread(metrics.models.admitted, read)


def _by_upstream_and(read: Callable[[UpstreamSeries], Mapping[str, int]]) -> _Reader[float]:
    return lambda metrics: _spread(metrics.upstreams, read)


def _spread(table: Mapping[str, _Series], read: Callable[[_Series], Mapping[str, int]]) -> _Rows[float]:
    for name, series in table.items():
        for key, count in read(series).items():
            yield (name, key), count


def _single(counts: Mapping[str, int]) -> _Rows[float]:
    return (((key,), count) for key, count in counts.items())


# A counter or gauge that is not here is sampled: its owner registered a reader with `Metrics.sample`.
_NUMBERS: dict[str, _Reader[float]] = {
    "requests_total": _requests,
    "shed_total": lambda metrics: _single(metrics.sheds),
    "batches_total": _by_model_and(lambda series: series.triggers),
    "batch_refused_total": _by_model_and(lambda series: series.refused),
    "batch_isolations_total": _isolations,
    "model_loads_total": _loads,
    "cold_starts_total": _cold_starts,
    "upstream_requests_total": _by_upstream_and(lambda series: series.codes),
    "upstream_connects_total": _by_upstream_and(lambda series: series.connects),
    "upstream_closes_total": _by_upstream_and(lambda series: series.closes),
    "upstream_reuse_total": _by_upstream(lambda series: series.reused),
    "upstream_stale_total": _by_upstream(lambda series: series.stale),
    "upstream_retries_total": _by_upstream(lambda series: series.retries),
    "upstream_retry_results_total": _by_upstream_and(lambda series: series.retry_results),
    "upstream_hedges_total": _by_upstream(lambda series: series.hedges),
    "upstream_probes_total": _by_upstream_and(lambda series: series.probes),
    "upstream_ejections_total": _by_upstream(lambda series: series.ejections),
    "stream_pauses_total": lambda metrics: _single(metrics.streaming.pauses),
    "stream_bytes_total": lambda metrics: (
        ((direction,), pieces.total) for direction, pieces in metrics.streaming.pieces.items() if pieces.total
    ),
    "stream_interrupted_total": lambda metrics: metrics.streaming.interrupted.items(),
    "stream_stalls_total": lambda metrics: [((), metrics.streaming.stalls)],
}

_HISTOGRAMS: dict[str, _Reader[Histogram]] = {
    "request_duration_seconds": _durations,
    "overhead_seconds": lambda metrics: (((name,), series) for name, series in metrics.overheads.items()),
    "queue_wait_seconds": _by_model(lambda series: series.queue_wait),
    "batch_items": _by_model(lambda series: series.batch_items),
    "batch_wait_seconds": _by_model(lambda series: series.batch_wait),
    "model_load_seconds": _by_model(lambda series: series.load_time),
    "cold_wait_seconds": _by_model(lambda series: series.cold_wait),
    "upstream_request_duration_seconds": _by_upstream(lambda series: series.duration),
    "upstream_connect_seconds": _by_upstream(lambda series: series.connect_time),
    "upstream_connection_requests": _by_upstream(lambda series: series.uses),
    "upstream_pool_wait_seconds": _by_upstream(lambda series: series.pool_wait),
    "time_to_first_byte_seconds": _by_model(lambda series: series.first_byte),
    "stream_event_gap_seconds": _by_model(lambda series: series.event_gap),
    "stream_events_per_second": _by_model(lambda series: series.event_rate),
    "stream_chunk_bytes": lambda metrics: (
        ((direction,), pieces) for direction, pieces in metrics.streaming.pieces.items()
    ),
    "event_loop_lag_seconds": lambda metrics: [((), metrics.loop_lag)],
}
