"""What the rooms report to, and the metrics page made of it.

Owned by the app, one for each; there is no global registry. Every recorder method is synchronous, cannot fail
on what a client or backend sent, and costs a fraction of a microsecond. All of it, scraping included, runs on
the event loop's thread, so nothing is locked.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from proxy.build import BUILD
from proxy.telemetry.catalogue import metric
from proxy.telemetry.ended import SHED_REASONS
from proxy.telemetry.histogram import Histogram
from proxy.telemetry.series import OTHER, CallSeries, Models, ModelSeries, StreamSeries, UpstreamSeries

if TYPE_CHECKING:
    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended

__all__ = ("BatchRecorder", "LoadRecorder", "Metrics", "PoolRecorder", "Sampler", "StreamRecorder")

_CODES = {status: str(status) for status in range(100, 600)}

Labels = tuple[str, ...]
Sampler = Callable[[], Iterable[tuple[Labels, float]]]
"""Reads a gauge at every scrape: (label values in catalogue order, value) pairs; equal labels add up."""


class BatchRecorder:
    """What lanes report. `model` is taken as the client wrote it."""

    __slots__ = ("_models",)

    def __init__(self, models: Models) -> None:
        self._models = models

    def batched(self, model: str, items: int, trigger: str, wait_s: float) -> None:
        """A batch of `items` left, `wait_s` seconds after its oldest member arrived, because of `trigger`."""
        series = self._models.of(model)
        series.triggers[trigger] += 1
        series.batch_items.observe(items)
        series.batch_wait.observe(wait_s)

    def refused(self, model: str, why: str) -> None:
        """A call could not be merged and was forwarded alone; `why` is a slug from the code."""
        self._models.of(model).refused[why] += 1

    def isolated(self, model: str) -> None:
        """A failed batch was taken apart."""
        self._models.of(model).isolations += 1


class LoadRecorder:
    """What the loader reports. Its models are those that the backend lists, so each may have a label."""

    __slots__ = ("_models",)

    def __init__(self, models: Models) -> None:
        self._models = models

    def managed(self, model: str) -> None:
        """`model` is one of the backend's own."""
        self._models.settle(model, answered=True)

    def loaded(self, model: str, cause: str, result: str, span_s: float) -> None:
        """A load ended after `span_s`; `result` is ``ok`` or a slug that says why it failed."""
        series = self._models.of(model)
        series.loads[cause, result] += 1
        if result == "ok":
            series.load_time.observe(span_s)

    def cold(self, model: str) -> None:
        """A request found its model not loaded."""
        self._models.of(model).cold_starts += 1

    def waited(self, model: str, span_s: float) -> None:
        """A request waited `span_s` for its model, until it was ready or the request was refused."""
        self._models.of(model).cold_wait.observe(span_s)


class PoolRecorder:
    """What the pools of one upstream report."""

    __slots__ = ("_series",)

    def __init__(self, series: UpstreamSeries) -> None:
        self._series = series

    def connected(self, result: str, span_s: float) -> None:
        """A dial ended after `span_s` seconds: ``ok``, or the error's reason slug."""
        self._series.connects[result] += 1
        if result == "ok":
            self._series.connect_time.observe(span_s)

    def closed(self, why: str, uses: int) -> None:
        """A connection ended that had carried `uses` calls; `why` is a slug from the code."""
        self._series.closes[why] += 1
        self._series.uses.observe(uses)

    def reused(self) -> None:
        """A call took a connection that was already open."""
        self._series.reused += 1

    def stale(self) -> None:
        """A pooled connection turned out to be closed when it was taken."""
        self._series.stale += 1

    def retried(self) -> None:
        """A call is sent a second time."""
        self._series.retries += 1

    def retry_ended(self, result: str) -> None:
        """What came of sending a call again: ``ok``, ``failed``, or ``budget`` if the budget forbade it."""
        self._series.retry_results[result] += 1

    def hedged(self) -> None:
        """A second copy of a slow call is sent."""
        self._series.hedges += 1

    def probed(self, result: str) -> None:
        """A health probe ended: ``ok``, or a slug that says why not."""
        self._series.probes[result] += 1

    def ejected(self) -> None:
        """An endpoint was taken out of use because calls to it failed."""
        self._series.ejections += 1

    def waited(self, span_s: float) -> None:
        """A call got its connection, or gave up, after waiting `span_s` seconds."""
        self._series.pool_wait.observe(span_s)

    def answered(self, status: int, span_s: float) -> None:
        """The upstream answered `status` in `span_s` seconds (to the head, for a stream)."""
        self._series.codes[_CODES.get(status, OTHER)] += 1
        self._series.duration.observe(span_s)


class StreamRecorder:
    """What relays report about bodies in transit."""

    __slots__ = ("_models", "_series")

    def __init__(self, series: StreamSeries, models: Models) -> None:
        self._series = series
        self._models = models

    def opened(self) -> None:
        """A body begins to be relayed; `closed` follows exactly once."""
        self._series.active += 1

    def closed(self) -> None:
        """The relayed body ended or was given up."""
        self._series.active -= 1

    def pieces(self, direction: str) -> Histogram:
        """Where the sizes of the pieces that arrive are counted; `direction` is ``request`` or ``response``.

        It is handed out because pieces are as many as tokens.
        """
        return self._series.pieces[direction]

    def interrupted(self, direction: str, by: str) -> None:
        """A body was not passed on whole; `by` is ``client``, ``upstream`` or ``proxy``."""
        self._series.interrupted[direction, by] += 1

    def stalled(self) -> None:
        """A reader took nothing for too long and was given up."""
        self._series.stalls += 1

    def series(self, model: str) -> ModelSeries:
        """Where the gaps between the events of a stream for `model` are counted: `event_gap`, in seconds.

        It is handed out because events are as many as tokens. Who keeps it asks for `event_gap` each time,
        which changes when the backend turns out not to know the model.
        """
        return self._models.of(model)

    def pace(self, model: str, rate: float) -> None:
        """An event stream ended; it brought `rate` events per second from its first to its last."""
        self._models.of(model).event_rate.observe(rate)

    def paused(self, direction: str) -> None:
        """A producer was told to wait; `direction` is ``request`` or ``response``."""
        self._series.pauses[direction] += 1

    def first_byte(self, model: str, span_s: float) -> None:
        """The first body byte of a streamed answer came `span_s` seconds after the request's head."""
        self._models.of(model).first_byte.observe(span_s)


class Metrics:
    """All counters of one app.

    `models` are the model names written out in the configuration; `cap` bounds the names that get a label.
    """

    def __init__(self, version: str, models: tuple[str, ...] = (), *, cap: int = 200) -> None:
        self.models = Models(models, cap=cap)
        self.calls: dict[tuple[str, str, str], CallSeries] = {}
        self.overheads: dict[str, Histogram] = {}
        self.upstreams: dict[str, UpstreamSeries] = {}
        self.streaming = StreamSeries()
        self.sheds: Counter[str] = Counter()
        self.loop_lag = Histogram(metric("event_loop_lag_seconds").buckets)
        self._samplers: dict[str, list[Sampler]] = {}
        self.is_config_current = True
        self.batch = BatchRecorder(self.models)
        self.load = LoadRecorder(self.models)
        self.stream = StreamRecorder(self.streaming, self.models)
        self.sample("stream_active", lambda: [((), self.streaming.active)])
        self.sample("config_last_reload_successful", lambda: [((), float(self.is_config_current))])
        self.sample("build_info", lambda: [((version, platform.python_version(), BUILD), 1.0)])

    def record(self, call: Call, ended: Ended) -> None:
        """Count one call's end."""
        series = self.calls.get((ended.route, ended.protocol, ended.model)) or self._admit(ended)
        duration_s = ended.duration_s
        queue_s = call.queue_s
        series.outcomes[ended.outcome] += 1
        series.duration.observe(duration_s)
        # Clocks are read at different places; a rounding error must not count as negative time.
        series.overhead.observe(max(duration_s - queue_s - call.pool_s - call.upstream_s, 0.0))
        if call.batch or queue_s:
            series.model.queue_wait.observe(queue_s)
        if ended.reason in SHED_REASONS:
            self.sheds[ended.reason] += 1

    def pool(self, upstream: str) -> PoolRecorder:
        """The recorder of the upstream named `upstream` in the configuration."""
        series = self.upstreams.get(upstream) or self.upstreams.setdefault(upstream, UpstreamSeries())
        return PoolRecorder(series)

    def sample(self, name: str, sampler: Sampler) -> None:
        """Ask `sampler` for the gauge or counter `name` at every scrape; several may share a name."""
        metric(name)
        self._samplers.setdefault(name, []).append(sampler)

    def sampled(self, name: str) -> dict[Labels, float]:
        """What the samplers of `name` say now; equal labels add up, unknown models are ``other``."""
        labels = metric(name).labels
        by_model = labels.index("model") if "model" in labels else None
        sums: dict[Labels, float] = {}
        for sampler in self._samplers.get(name, ()):
            for values, value in sampler():
                key = values if by_model is None else self._relabel(values, by_model)
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def _relabel(self, values: Labels, index: int) -> Labels:
        return (*values[:index], self.models.label(values[index]), *values[index + 1 :])

    def _admit(self, ended: Ended) -> CallSeries:
        """The series of a call seen for the first time: its own, or the one shared by unknown models."""
        label = self.models.settle(ended.model, answered=ended.outcome == "ok")
        key = (ended.route, ended.protocol, label)
        series = self.calls.get(key)
        if series is None:
            bounds = metric("overhead_seconds").buckets
            overhead = self.overheads.setdefault(ended.protocol, Histogram(bounds))
            series = self.calls[key] = CallSeries(self.models.admitted[label], overhead)
        return series
