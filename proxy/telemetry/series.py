"""The accumulators behind the metrics, and the bound on how many there can be.

Recording is a few increments on plain objects that the caller reaches by one dictionary lookup; names, help
texts and text formats exist only at scrape time (`collector`).

**Model names are not trusted.** Anybody can send a request for a model that does not exist, and each new
label value is memory here and in every Prometheus that scrapes us. So a name becomes a label only once the
backend has answered `ok` for it, and only for the first `cap` names; the rest share the label ``other``.
Names from the configuration are admitted from the start, and so is the empty name of calls without a model.

Batches are recorded before the answer is known. Their counts wait in a *pending* series until the first call
for that model ends: an `ok` turns the series into one of its own, anything else adds it to ``other``. As
every call ends in exactly one record, nothing waits longer than a call lasts, and no exposed counter ever
goes down. Pending names are bounded too; beyond the bound they go to ``other`` directly.
"""

from __future__ import annotations

from collections import Counter

from proxy.telemetry.catalogue import metric
from proxy.telemetry.ended import OUTCOMES, Outcome
from proxy.telemetry.histogram import Histogram

__all__ = ("OTHER", "CallSeries", "ModelSeries", "Models", "StreamSeries", "UpstreamSeries")

OTHER = "other"
_RESERVED = (OTHER, "")
_PENDING_CAP = 1024


def _histogram(name: str) -> Histogram:
    return Histogram(metric(name).buckets)


class CallSeries:
    """What is counted for one (route, protocol, model). `overhead` and `model` are shared with others."""

    __slots__ = ("duration", "model", "outcomes", "overhead")

    def __init__(self, model: ModelSeries, overhead: Histogram) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self.duration = _histogram("request_duration_seconds")
        self.overhead = overhead
        self.model = model


class ModelSeries:
    """What is counted for one model, over all its lanes."""

    __slots__ = (
        "batch_items",
        "batch_wait",
        "cold_starts",
        "cold_wait",
        "event_gap",
        "event_rate",
        "first_byte",
        "isolations",
        "load_time",
        "loads",
        "queue_wait",
        "refused",
        "triggers",
    )

    def __init__(self) -> None:
        self.queue_wait = _histogram("queue_wait_seconds")
        self.batch_items = _histogram("batch_items")
        self.batch_wait = _histogram("batch_wait_seconds")
        self.first_byte = _histogram("time_to_first_byte_seconds")
        self.event_gap = _histogram("stream_event_gap_seconds")
        self.event_rate = _histogram("stream_events_per_second")
        self.triggers: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.isolations = 0
        self.loads: Counter[tuple[str, str]] = Counter()
        self.load_time = _histogram("model_load_seconds")
        self.cold_starts = 0
        self.cold_wait = _histogram("cold_wait_seconds")

    def absorb(self, other: ModelSeries) -> None:
        """Add everything that `other` counted; what its open streams count from now on is counted here."""
        self.queue_wait.absorb(other.queue_wait)
        self.batch_items.absorb(other.batch_items)
        self.batch_wait.absorb(other.batch_wait)
        self.first_byte.absorb(other.first_byte)
        self.event_gap.absorb(other.event_gap)
        self.event_rate.absorb(other.event_rate)
        self.triggers.update(other.triggers)
        self.refused.update(other.refused)
        self.isolations += other.isolations
        self.loads.update(other.loads)
        self.load_time.absorb(other.load_time)
        self.cold_starts += other.cold_starts
        self.cold_wait.absorb(other.cold_wait)
        other.event_gap = self.event_gap


class UpstreamSeries:
    """What is counted for one upstream."""

    __slots__ = (
        "closes",
        "codes",
        "connect_time",
        "connects",
        "duration",
        "ejections",
        "hedges",
        "pool_wait",
        "probes",
        "retries",
        "retry_results",
        "reused",
        "stale",
        "uses",
    )

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.connects: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.probes: Counter[str] = Counter()
        self.retry_results: Counter[str] = Counter()
        self.connect_time = _histogram("upstream_connect_seconds")
        self.uses = _histogram("upstream_connection_requests")
        self.duration = _histogram("upstream_request_duration_seconds")
        self.pool_wait = _histogram("upstream_pool_wait_seconds")
        self.reused = 0
        self.stale = 0
        self.retries = 0
        self.hedges = 0
        self.ejections = 0


class StreamSeries:
    """What is counted for bodies that are relayed as they arrive."""

    __slots__ = ("active", "interrupted", "pauses", "pieces", "stalls")

    def __init__(self) -> None:
        self.active = 0
        self.stalls = 0
        self.pauses: Counter[str] = Counter()
        self.interrupted: Counter[tuple[str, str]] = Counter()
        self.pieces = {direction: _histogram("stream_chunk_bytes") for direction in ("request", "response")}


class Models:
    """The bounded table of model series; see the module's text for who gets a series of its own."""

    __slots__ = ("_admitted", "_most", "_pending")

    def __init__(self, configured: tuple[str, ...] = (), *, cap: int = 200) -> None:
        self._admitted = {name: ModelSeries() for name in (*_RESERVED, *configured)}
        self._pending: dict[str, ModelSeries] = {}
        self._most = max(cap, len(configured)) + len(_RESERVED)

    @property
    def admitted(self) -> dict[str, ModelSeries]:
        """The series that are exposed, by label value."""
        return self._admitted

    def label(self, model: str) -> str:
        """The label value under which `model` is exposed now."""
        return model if model in self._admitted else OTHER

    def of(self, model: str) -> ModelSeries:
        """The series to count in for `model`, before it is known whether that model exists."""
        series = self._admitted.get(model) or self._pending.get(model)
        if series is not None:
            return series
        if self._is_full or len(self._pending) >= _PENDING_CAP:
            return self._admitted[OTHER]
        return self._pending.setdefault(model, ModelSeries())

    def settle(self, model: str, *, answered: bool) -> str:
        """The label to count an ended call for `model` under; `answered` when the backend served it."""
        if model in self._admitted:
            return model
        pending = self._pending.pop(model, None)
        if not answered or self._is_full:
            if pending is not None:
                self._admitted[OTHER].absorb(pending)
            return OTHER
        self._admitted[model] = pending or ModelSeries()
        return model

    @property
    def _is_full(self) -> bool:
        return len(self._admitted) >= self._most
