"""The status document: one JSON object that answers "is it well, and if not, why" (``/status.json``).

Its layout is a promise: keys are added, never renamed or removed, while `schema` stays 1. Durations are in
seconds and end in ``_s``, times are ISO 8601 UTC. Everything is read at the moment of asking; nothing here
runs on a request's path.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from proxy.build import BUILD
from proxy.telemetry.catalogue import metric
from proxy.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.telemetry.metrics import Metrics
    from proxy.telemetry.recent_errors import FailureGroup
    from proxy.telemetry.series import ModelSeries
    from proxy.telemetry.telemetry import Telemetry

__all__ = ("BatchSummary", "Listener", "ModelSummary", "Status", "StatusReport")


class Listener(msgspec.Struct, frozen=True):
    """A bound socket; `address` as a client would write it."""

    name: str
    address: str


class BatchSummary(msgspec.Struct, frozen=True):
    """One model's batches since the start. `items_p50` and `items_p99` are estimates from buckets."""

    count: int
    items_mean: float
    items_p50: int
    items_p99: int
    wait_mean_s: float
    triggers: dict[str, int]
    refused: dict[str, int]
    isolations: int


class ModelSummary(msgspec.Struct, frozen=True):
    """One model since the start; the empty name stands for calls without a model."""

    name: str
    requests: int
    outcomes: dict[str, int]
    p50_s: float
    p99_s: float
    queue_depth: int
    queue_wait_p50_s: float
    queue_wait_p99_s: float
    batches: BatchSummary


class Status(msgspec.Struct, frozen=True):
    """The whole document."""

    schema: int
    version: str
    build: str
    state: str
    started_at: str
    now: str
    uptime_s: float
    config_hash: str
    config_current: bool
    in_flight: int
    listeners: list[Listener]
    models: list[ModelSummary]
    pools: dict[str, object]
    lanes: dict[str, object]
    loading: object
    recent_errors: list[FailureGroup]


class StatusReport:
    """Builds `Status`; `state` tells the lifecycle's state, `clock_now` the monotonic time in seconds."""

    def __init__(
        self,
        telemetry: Telemetry,
        clock_now: Callable[[], float],
        state: Callable[[], str],
        *,
        version: str,
        config_hash: str = "",
    ) -> None:
        self.config_hash = config_hash
        self._telemetry = telemetry
        self._clock_now = clock_now
        self._state = state
        self._version = version
        self._started_at = telemetry.stamp()
        self._born = clock_now()
        self._listeners: list[Listener] = []
        self._pools: dict[str, Callable[[], object]] = {}
        self._lanes: dict[str, Callable[[], object]] = {}
        self._loading: Callable[[], object] = _nothing

    def add_listener(self, name: str, address: str) -> None:
        """A listener is bound to `address`."""
        self._listeners.append(Listener(name, address))

    def add_pool(self, upstream: str, snapshot: Callable[[], object]) -> None:
        """`snapshot` describes the upstream's connections as something msgspec can write as JSON."""
        self._pools[upstream] = snapshot

    def add_lanes(self, upstream: str, snapshot: Callable[[], object]) -> None:
        """`snapshot` describes the upstream's batching as something msgspec can write as JSON."""
        self._lanes[upstream] = snapshot

    def set_loading(self, snapshot: Callable[[], object]) -> None:
        """`snapshot` describes the managed models as something msgspec can write as JSON."""
        self._loading = snapshot

    def build(self) -> Status:
        """The document as of now."""
        metrics = self._telemetry.metrics
        return Status(
            schema=1,
            version=self._version,
            build=BUILD,
            state=self._state(),
            started_at=self._started_at,
            now=self._telemetry.stamp(),
            uptime_s=round(self._clock_now() - self._born, 3),
            config_hash=self.config_hash,
            config_current=metrics.is_config_current,
            in_flight=int(sum(metrics.sampled("requests_in_flight").values())),
            listeners=self._listeners,
            models=_models(metrics),
            pools={name: snapshot() for name, snapshot in self._pools.items()},
            lanes={name: snapshot() for name, snapshot in self._lanes.items()},
            loading=self._loading(),
            recent_errors=self._telemetry.errors.newest_first(),
        )

    def as_json(self) -> bytes:
        """The document as JSON text."""
        return msgspec.json.encode(self.build())


def _nothing() -> None:
    """Stands for a part that is switched off."""


def _models(metrics: Metrics) -> list[ModelSummary]:
    depths = metrics.sampled("queue_depth")
    summaries = (
        _model(metrics, name, series, int(depths.get((name,), 0)))
        for name, series in sorted(metrics.models.admitted.items())
    )
    return [summary for summary in summaries if summary.requests or summary.queue_depth]


def _model(metrics: Metrics, name: str, series: ModelSeries, queue_depth: int) -> ModelSummary:
    duration = Histogram(metric("request_duration_seconds").buckets)
    outcomes: dict[str, int] = {}
    for (_, _, model), calls in metrics.calls.items():
        if model == name:
            duration.absorb(calls.duration)
            for outcome, count in calls.outcomes.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
    return ModelSummary(
        name=name,
        requests=duration.count,
        outcomes={outcome: count for outcome, count in outcomes.items() if count},
        p50_s=_quantile(duration, 0.5),
        p99_s=_quantile(duration, 0.99),
        queue_depth=queue_depth,
        queue_wait_p50_s=_quantile(series.queue_wait, 0.5),
        queue_wait_p99_s=_quantile(series.queue_wait, 0.99),
        batches=_batches(series),
    )


def _batches(series: ModelSeries) -> BatchSummary:
    return BatchSummary(
        count=series.batch_items.count,
        items_mean=round(series.batch_items.mean, 2),
        items_p50=math.ceil(series.batch_items.quantile(0.5)),
        items_p99=math.ceil(series.batch_items.quantile(0.99)),
        wait_mean_s=round(series.batch_wait.mean, 6),
        triggers=dict(series.triggers),
        refused=dict(series.refused),
        isolations=series.isolations,
    )


def _quantile(spans: Histogram, q: float) -> float:
    return round(spans.quantile(q), 6)
