from __future__ import annotations

import pytest

from proxy.telemetry.metrics import Metrics
from tests.unit.telemetry.calls import a_call, an_end


def test_a_call_is_counted_under_its_route_protocol_and_model() -> None:
    metrics = Metrics("1.2.3")
    metrics.record(a_call(), an_end(duration_s=0.012))
    metrics.record(a_call(), an_end(outcome="upstream_error", status=502, duration_s=0.002))
    (key,) = metrics.calls
    series = metrics.calls[key]
    assert key == ("infer", "http", "iris")
    assert series.outcomes["ok"] == series.outcomes["upstream_error"] == 1
    assert series.duration.count == 2
    assert series.duration.total == pytest.approx(0.014)


def test_overhead_is_what_waiting_and_the_upstream_leave() -> None:
    metrics = Metrics("1.2.3")
    call = a_call()
    call.queue_s, call.pool_s, call.upstream_s = 0.003, 0.001, 0.007
    metrics.record(call, an_end(duration_s=0.012))
    assert metrics.overheads["http"].total == pytest.approx(0.001)


def test_overhead_is_never_negative() -> None:
    metrics = Metrics("1.2.3")
    call = a_call()
    call.upstream_s = 0.0121
    metrics.record(call, an_end(duration_s=0.012))
    assert metrics.overheads["http"].total == 0.0


@pytest.mark.parametrize(
    ("batch", "queue_s", "waits"), [(b"", 0.0, []), (b"size=3", 0.0, [0.0]), (b"", 0.5, [0.5])]
)
def test_only_calls_that_were_queued_have_a_queue_wait(
    batch: bytes, queue_s: float, waits: list[float]
) -> None:
    metrics = Metrics("1.2.3")
    call = a_call()
    call.batch, call.queue_s = batch, queue_s
    metrics.record(call, an_end(duration_s=1.0))
    queue_wait = metrics.models.admitted["iris"].queue_wait
    assert (queue_wait.count, queue_wait.total) == (len(waits), sum(waits))


def test_unknown_models_share_one_series() -> None:
    metrics = Metrics("1.2.3")
    for n in range(5000):
        metrics.record(a_call(), an_end(f"guess-{n}", "client_error", 404))
    assert list(metrics.calls) == [("infer", "http", "other")]
    assert metrics.calls["infer", "http", "other"].outcomes["client_error"] == 5000


def test_lanes_report_batches() -> None:
    metrics = Metrics("1.2.3", ("iris",))
    metrics.batch.batched("iris", 37, "slot_free", 0.004)
    metrics.batch.refused("iris", "shape")
    metrics.batch.isolated("iris")
    series = metrics.models.admitted["iris"]
    assert series.triggers == {"slot_free": 1}
    assert series.batch_items.total == 37
    assert series.batch_wait.total == 0.004
    assert series.refused == {"shape": 1}
    assert series.isolations == 1


def test_pools_report_to_one_series_for_each_upstream() -> None:
    metrics = Metrics("1.2.3")
    pool = metrics.pool("model")
    pool.connected("ok", 0.125)
    pool.connected("connect_timeout", 1.0)
    pool.reused()
    pool.stale()
    pool.retried()
    pool.retry_ended("ok")
    pool.hedged()
    pool.ejected()
    pool.closed("fin", 7)
    pool.probed("ok")
    pool.waited(0.25)
    pool.answered(200, 0.5)
    metrics.pool("model").connected("ok", 0.125)
    series = metrics.upstreams["model"]
    assert series.connects == {"ok": 2, "connect_timeout": 1}
    assert series.connect_time.total == 0.25
    assert series.uses.total == 7
    assert series.retry_results == {"ok": 1}
    assert (series.reused, series.stale, series.retries, series.hedges, series.ejections) == (1, 1, 1, 1, 1)
    assert series.closes == {"fin": 1}
    assert series.probes == {"ok": 1}
    assert series.pool_wait.total == 0.25
    assert series.codes == {"200": 1}
    assert series.duration.total == 0.5


def test_a_backend_cannot_invent_status_codes_without_bound() -> None:
    metrics = Metrics("1.2.3")
    pool = metrics.pool("model")
    for status in (0, 99, 600, 12345):
        pool.answered(status, 0.1)
    assert metrics.upstreams["model"].codes == {"other": 4}


def test_relays_report_streams() -> None:
    metrics = Metrics("1.2.3", ("chat",))
    metrics.stream.opened()
    metrics.stream.opened()
    metrics.stream.closed()
    metrics.stream.paused("response")
    metrics.stream.first_byte("chat", 0.2)
    assert metrics.sampled("stream_active") == {(): 1}
    assert metrics.streaming.pauses == {"response": 1}
    assert metrics.models.admitted["chat"].first_byte.total == 0.2


def test_refused_calls_are_counted_by_reason() -> None:
    metrics = Metrics("1.2.3")
    metrics.record(a_call(), an_end(outcome="shed", status=503, reason="queue_full"))
    metrics.record(a_call(), an_end(outcome="timeout", status=504, reason="deadline_exceeded"))
    metrics.record(a_call(), an_end(outcome="upstream_error", status=502, reason="reset"))
    assert metrics.sheds == {"queue_full": 1, "deadline_exceeded": 1}


def test_samples_with_equal_labels_add_up_and_unknown_models_are_other() -> None:
    metrics = Metrics("1.2.3", ("iris",))
    metrics.sample("queue_depth", lambda: [(("iris",), 2), (("guess-1",), 1)])
    metrics.sample("queue_depth", lambda: [(("iris",), 3), (("guess-2",), 1)])
    assert metrics.sampled("queue_depth") == {("iris",): 5, ("other",): 2}


def test_samples_without_a_model_keep_their_labels() -> None:
    metrics = Metrics("1.2.3")
    metrics.sample("endpoint_healthy", lambda: [(("model", "http://127.0.0.1:8000"), 1)])
    assert metrics.sampled("endpoint_healthy") == {("model", "http://127.0.0.1:8000"): 1}
    assert metrics.sampled("requests_in_flight") == {}


def test_only_what_the_catalogue_lists_can_be_sampled() -> None:
    metrics = Metrics("1.2.3")
    with pytest.raises(KeyError):
        metrics.sample("no_such_metric", list)
