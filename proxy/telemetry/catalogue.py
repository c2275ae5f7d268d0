"""The metrics Pillion exposes: name, type, labels, meaning, buckets. A compatibility promise.

Everything is in base units (seconds, bytes) and histograms, never summaries, because summaries cannot be
added up over replicas. Label values come from the configuration, from enumerations in the code, or, for
`model`, from names that the backend has answered for; whoever sends requests cannot create series.

Duration buckets are a superset of those OpenTelemetry recommends for HTTP servers, with finer steps below
5 ms, where a sidecar beside a fast model spends its time. Overhead buckets go down to 0.05 ms.

`docs/metrics.md` is written from this list; a test fails when it is stale.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ("CATALOGUE", "PREFIX", "Kind", "Metric", "as_markdown", "metric")

PREFIX = "pillion_"

Kind = Literal["counter", "gauge", "histogram"]

_SPANS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
)
_WAITS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OVERHEADS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_CHUNKS = tuple(64 << power for power in range(0, 15, 2))  # ints, as the sizes are: comparing takes half
_PACES = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
_LOADS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 600.0)
_USES = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
_ITEMS = tuple(float(1 << power) for power in range(13))


class Metric(NamedTuple):
    """One metric family; `name` without the prefix. Only histograms have `buckets`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "requests_total",
        "counter",
        ("protocol", "route", "model", "outcome"),
        "Requests by outcome: ok, client_error, upstream_error, timeout, shed, cancelled, proxy_error.",
    ),
    Metric(
        "request_duration_seconds",
        "histogram",
        ("protocol", "route", "model"),
        "Time from the request's head to the last byte of its answer.",
        _SPANS,
    ),
    Metric(
        "overhead_seconds",
        "histogram",
        ("protocol",),
        "Time spent in the proxy itself: duration less waiting (batch, connection) and the upstream's share.",
        _OVERHEADS,
    ),
    Metric("requests_in_flight", "gauge", (), "Requests admitted and not yet ended."),
    Metric("shed_total", "counter", ("reason",), "Requests refused to protect the others."),
    Metric("queue_depth", "gauge", ("model",), "Requests waiting in a lane for their batch."),
    Metric(
        "queue_wait_seconds", "histogram", ("model",), "Time a batched request waited in its lane.", _WAITS
    ),
    Metric("batch_items", "histogram", ("model",), "Items in a batch sent upstream.", _ITEMS),
    Metric(
        "batch_wait_seconds",
        "histogram",
        ("model",),
        "Time from the arrival of a batch's oldest member to its dispatch.",
        _WAITS,
    ),
    Metric(
        "batches_total",
        "counter",
        ("model", "trigger"),
        "Batches sent, by what released them: idle, slot_free, full, window, deadline, drain.",
    ),
    Metric(
        "batch_refused_total",
        "counter",
        ("model", "why"),
        "Requests on a batching route that were forwarded alone because they could not be merged safely.",
    ),
    Metric(
        "batch_isolations_total",
        "counter",
        ("model",),
        "Failed batches that were taken apart to find the member at fault.",
    ),
    Metric("batch_inflight_limit", "gauge", ("model",), "Batches that may be in flight at once."),
    Metric(
        "cache_lookups_total",
        "counter",
        ("result",),
        "Requests that asked the cache, by result: hit, miss, partial (some items were known), collapsed"
        " (shared another's upstream call), stale, bypass.",
    ),
    Metric("cache_entries", "gauge", (), "Answers kept in memory."),
    Metric("cache_bytes", "gauge", (), "Bytes of answers kept in memory."),
    Metric(
        "cache_evictions_total",
        "counter",
        ("reason",),
        "Answers removed from memory, by reason: size (to make room), age.",
    ),
    Metric(
        "cache_errors_total",
        "counter",
        ("operation",),
        "Failed or late operations on the cache's storage, by operation; requests went on without it.",
    ),
    Metric(
        "upstream_requests_total",
        "counter",
        ("upstream", "code"),
        "Answers from the upstream, by HTTP status, a gRPC status by what it means in HTTP; a batch is one.",
    ),
    Metric(
        "upstream_request_duration_seconds",
        "histogram",
        ("upstream",),
        "Time from sending a request upstream to its whole answer, or to its head when it is streamed.",
        _SPANS,
    ),
    Metric(
        "upstream_connections",
        "gauge",
        ("upstream", "protocol", "state"),
        "Upstream connections by state: active, idle, connecting.",
    ),
    Metric(
        "upstream_connects_total",
        "counter",
        ("upstream", "result"),
        "Upstream connection attempts, by result.",
    ),
    Metric(
        "upstream_connect_seconds",
        "histogram",
        ("upstream",),
        "Time until an upstream connection was open, its name and TLS included.",
        _WAITS,
    ),
    Metric(
        "upstream_closes_total",
        "counter",
        ("upstream", "reason"),
        "Upstream connections that ended, by reason.",
    ),
    Metric(
        "upstream_connection_requests",
        "histogram",
        ("upstream",),
        "Requests that an upstream connection had carried when it ended.",
        _USES,
    ),
    Metric(
        "upstream_reuse_total",
        "counter",
        ("upstream",),
        "Requests sent on a connection that was already open.",
    ),
    Metric(
        "upstream_stale_total",
        "counter",
        ("upstream",),
        "Pooled connections found closed by the upstream when they were taken.",
    ),
    Metric(
        "upstream_pool_wait_seconds",
        "histogram",
        ("upstream",),
        "Time a request waited for a connection to become free.",
        _WAITS,
    ),
    Metric("upstream_retries_total", "counter", ("upstream",), "Requests sent a second time."),
    Metric(
        "upstream_retry_results_total",
        "counter",
        ("upstream", "result"),
        "What came of retries: ok, failed, or budget for those that the retry budget forbade.",
    ),
    Metric(
        "upstream_hedges_total", "counter", ("upstream",), "Slow requests of which a second copy was sent."
    ),
    Metric(
        "upstream_probes_total",
        "counter",
        ("upstream", "result"),
        "Health probes, by result: ok, or why not.",
    ),
    Metric("upstream_ejections_total", "counter", ("upstream",), "Endpoints taken out of use for failing."),
    Metric(
        "endpoint_healthy", "gauge", ("upstream", "endpoint"), "1 while the endpoint takes requests, else 0."
    ),
    Metric(
        "endpoint_waiting",
        "gauge",
        ("upstream", "endpoint"),
        "Requests that wait for a connection to the endpoint.",
    ),
    Metric(
        "endpoint_idle_limit_seconds",
        "gauge",
        ("upstream", "endpoint"),
        "How long an idle connection is kept: configured, announced or learned, whichever is shortest.",
    ),
    Metric(
        "endpoint_concurrency_limit",
        "gauge",
        ("upstream", "endpoint"),
        "Requests that may be in flight to the endpoint at once.",
    ),
    Metric(
        "l4_connections_total",
        "counter",
        ("upstream", "outcome"),
        "Clients of l4 listeners by what became of them: ok (both sides ended well), client (it broke off),"
        " upstream (it broke off), refused (no connection to the upstream), shed (over a limit or at drain).",
    ),
    Metric(
        "l4_bytes_total",
        "counter",
        ("upstream", "direction"),
        "Bytes passed on by l4 listeners: request (from the client), response.",
    ),
    Metric("model_state", "gauge", ("model", "state"), "1 for the state that a managed model is in."),
    Metric("model_resident_bytes", "gauge", ("model",), "Bytes that a loaded model is taken to hold."),
    Metric("model_budget_bytes", "gauge", ("kind",), "Memory for models: total (0: no limit), used."),
    Metric(
        "model_loads_total",
        "counter",
        ("model", "cause", "result"),
        "Loads by cause (demand, periodic, seasonal, successor, boot, preload, manual) and result.",
    ),
    Metric("model_load_seconds", "histogram", ("model",), "Time of loads that succeeded.", _LOADS),
    Metric("cold_starts_total", "counter", ("model",), "Requests that found their model not loaded."),
    Metric(
        "cold_wait_seconds",
        "histogram",
        ("model",),
        "Time a request waited for its model, until that was ready or the request was refused.",
        _LOADS,
    ),
    Metric(
        "predictions_total",
        "counter",
        ("cause", "outcome"),
        "Predicted needs by what came of them: hit, late, wasted, suppressed.",
    ),
    Metric(
        "prediction_seconds_total",
        "counter",
        ("kind",),
        "Load time saved by predictions, wasted by them, and forgone by suppressing those that came true.",
    ),
    Metric("model_churn_ratio", "gauge", (), "Share of recent loads that undid a recent unload."),
    Metric("stream_active", "gauge", (), "Bodies being relayed as they arrive."),
    Metric(
        "stream_pauses_total",
        "counter",
        ("direction",),
        "Times a producer was paused because its consumer was slow: request, response.",
    ),
    Metric("stream_paused", "gauge", ("direction",), "Producers that wait for their consumer now."),
    Metric("stream_buffered_bytes", "gauge", (), "Bytes held for slow consumers."),
    Metric(
        "stream_bytes_total",
        "counter",
        ("direction",),
        "Body bytes that arrived in streams, before any encoding.",
    ),
    Metric(
        "stream_chunk_bytes",
        "histogram",
        ("direction",),
        "Size of the pieces in which streams arrived and, for a reader that keeps up, left.",
        _CHUNKS,
    ),
    Metric(
        "stream_interrupted_total",
        "counter",
        ("direction", "by"),
        "Streams that were not passed on whole, by who broke them off: client, upstream, proxy.",
    ),
    Metric("stream_stalls_total", "counter", (), "Readers that were given up because they took nothing."),
    Metric(
        "stream_event_gap_seconds",
        "histogram",
        ("model",),
        "Time between two events of a server-sent or newline-delimited event stream.",
        _SPANS,
    ),
    Metric(
        "stream_events_per_second",
        "histogram",
        ("model",),
        "Pace of a finished event stream, from its first event to its last; tokens, where each event is one.",
        _PACES,
    ),
    Metric(
        "time_to_first_byte_seconds",
        "histogram",
        ("model",),
        "Time from the request's head to the first body byte of a streamed answer.",
        _SPANS,
    ),
    Metric(
        "config_last_reload_successful", "gauge", (), "1 when the last configuration load worked, else 0."
    ),
    Metric(
        "access_log_dropped_total", "counter", (), "Access log lines dropped because the reader was slow."
    ),
    Metric("event_loop_lag_seconds", "histogram", (), "How late a timer ran on the event loop.", _LAGS),
    Metric(
        "build_info", "gauge", ("version", "python", "build"), "Always 1; the labels say what is running."
    ),
)

_BY_NAME = {entry.name: entry for entry in CATALOGUE}


def metric(name: str) -> Metric:
    """The catalogue's entry `name` (no prefix); KeyError when there is none."""
    return _BY_NAME[name]


def as_markdown() -> str:
    """The page `docs/metrics.md`, whole."""
    rows = "".join(map(_row, CATALOGUE))
    bounds = "".join(_bounds(entry) for entry in CATALOGUE if entry.buckets)
    return f"{_HEAD}{rows}{_MIDDLE}{bounds}"


def _row(entry: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in entry.labels) or "none"
    return f"| `{PREFIX}{entry.name}` | {entry.kind} | {labels} | {entry.help} |\n"


def _bounds(entry: Metric) -> str:
    return f"- `{PREFIX}{entry.name}`: {', '.join(f'{bound:g}' for bound in entry.buckets)}\n"


_HEAD = """\
# Metrics

`GET /metrics` on the admin port. Names, types and labels are a promise: they change only with the major
version. Everything is in base units. A series appears once it has something to show.

A model's name becomes a label when the backend has answered a request for it, or when it is written out in
the configuration; at most 200 names do. All others share `model="other"`, so clients cannot create series.
Calls that are not for a model have `model=""`.

Beside these there are the usual `process_*` and `python_*` metrics of the process and the interpreter.

| metric | type | labels | meaning |
|---|---|---|---|
"""

_MIDDLE = """
## Histogram buckets

Upper bounds, each followed by `+Inf`.

"""
