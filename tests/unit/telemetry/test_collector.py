from __future__ import annotations

import asyncio
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.telemetry.catalogue import CATALOGUE, PREFIX, as_markdown, metric
from proxy.telemetry.collector import _HISTOGRAMS, _NUMBERS, MetricsPage
from proxy.telemetry.metrics import Metrics
from tests.unit.telemetry.calls import a_call, an_end

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

RECORDED = {*_NUMBERS, *_HISTOGRAMS}
DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def busy() -> Metrics:
    """Metrics in which every entry of the catalogue has something to show."""
    metrics = Metrics("1.2.3")
    call = a_call()
    call.batch, call.queue_s, call.upstream_s = b"size=3", 0.003, 0.008
    metrics.record(call, an_end())
    metrics.record(a_call(), an_end(outcome="shed", status=429, reason="overloaded"))
    metrics.batch.batched("iris", 3, "full", 0.003)
    metrics.batch.refused("iris", "shape")
    metrics.batch.isolated("iris")
    pool = metrics.pool("model")
    pool.connected("ok", 0.001)
    pool.closed("fin", 7)
    pool.retry_ended("ok")
    pool.probed("ok")
    pool.waited(0.001)
    pool.answered(200, 0.008)
    metrics.stream.paused("response")
    metrics.stream.first_byte("iris", 0.02)
    metrics.stream.pieces("response").observe(100)
    metrics.stream.interrupted("response", "client")
    metrics.stream.stalled()
    metrics.stream.series("iris").event_gap.observe(0.02)
    metrics.stream.pace("iris", 40.0)
    metrics.loop_lag.observe(0.002)
    metrics.load.loaded("iris", "demand", "ok", 1.5)
    metrics.load.cold("iris")
    metrics.load.waited("iris", 0.4)
    for entry in CATALOGUE:
        if entry.name not in RECORDED and not metrics.sampled(entry.name):
            labels = tuple("iris" if label == "model" else "x" for label in entry.labels)
            metrics.sample(entry.name, partial(_constant, labels))
    return metrics


def _constant(labels: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    return [(labels, 7.0)]


def openmetrics(text: str) -> list[Family]:
    return list(parse_openmetrics(text))  # type: ignore[no-untyped-call]  # the parser has no annotations


async def page_of(metrics: Metrics, accept: str = "") -> tuple[str, str]:
    content_type, page = await MetricsPage(metrics).render(accept)
    return content_type, page.decode()


async def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    _, text = await page_of(metrics)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


async def test_everything_in_the_catalogue_is_exposed_with_its_labels() -> None:
    _, text = await page_of(busy())
    families = {family.name: family for family in parse_text(text)}
    for entry in CATALOGUE:
        family = families[(PREFIX + entry.name).removesuffix("_total")]
        assert family.type == entry.kind
        assert family.documentation == entry.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(entry.labels), entry.name


async def test_labels_carry_the_values_that_their_names_say() -> None:
    numbers = await values(busy())
    where = (("model", "iris"), ("outcome", "ok"), ("protocol", "http"), ("route", "infer"))
    assert numbers["pillion_requests_total", where] == 1
    assert numbers["pillion_upstream_requests_total", (("code", "200"), ("upstream", "model"))] == 1
    assert numbers["pillion_batches_total", (("model", "iris"), ("trigger", "full"))] == 1
    assert numbers["pillion_queue_depth", (("model", "iris"),)] == 7


async def test_a_histogram_is_cumulative_and_complete() -> None:
    metrics = Metrics("1.2.3")
    for lag_s in (0.002, 0.02, 5.0):
        metrics.loop_lag.observe(lag_s)
    numbers = await values(metrics)
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in numbers.items()
        if name == "pillion_event_loop_lag_seconds_bucket"
    }
    assert list(buckets) == [*metric("event_loop_lag_seconds").buckets, math.inf]
    assert (buckets[0.001], buckets[0.0025], buckets[0.025], buckets[1.0], buckets[math.inf]) == (
        0,
        1,
        2,
        2,
        3,
    )
    assert numbers["pillion_event_loop_lag_seconds_count", ()] == 3
    assert numbers["pillion_event_loop_lag_seconds_sum", ()] == pytest.approx(5.022)


async def test_what_counted_nothing_is_left_out() -> None:
    _, text = await page_of(Metrics("1.2.3"))
    assert {family.name for family in parse_text(text) if family.name.startswith(PREFIX)} == {
        "pillion_stream_active",
        "pillion_stream_stalls",
        "pillion_config_last_reload_successful",
        "pillion_build_info",
    }


async def test_the_process_the_interpreter_and_its_collector_are_on_the_page() -> None:
    _, text = await page_of(Metrics("1.2.3"))
    names = {family.name for family in parse_text(text)}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names


async def test_openmetrics_is_given_to_whoever_asks_for_it() -> None:
    content_type, text = await page_of(busy(), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.count("# EOF") == 1
    assert "pillion_requests" in {family.name for family in openmetrics(text)}


async def test_plain_text_is_given_to_everybody_else() -> None:
    content_type, text = await page_of(busy(), "*/*")
    assert content_type.startswith("text/plain")
    assert "# EOF" not in text


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_large_family_is_written_in_pieces_with_one_head(accept: str) -> None:
    metrics = Metrics("1.2.3")
    for n in range(50):
        metrics.record(a_call(), an_end(f"m{n}"))
    _, text = await page_of(metrics, accept)
    families = list(openmetrics(text) if accept else parse_text(text))
    (family,) = (found for found in families if found.name == "pillion_request_duration_seconds")
    lines = len(metric("request_duration_seconds").buckets) + 3
    assert len(family.samples) == 50 * lines
    assert text.count("# TYPE pillion_request_duration_seconds ") == 1


async def test_the_loop_gets_turns_while_a_page_is_made() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(others())
        await page_of(busy())
        other.cancel()
    assert turns >= len(CATALOGUE)


async def test_strange_model_names_are_escaped() -> None:
    metrics = Metrics("1.2.3")
    name = 'a"b\\c\nd'
    metrics.record(a_call(), an_end(name))
    where = (("model", name), ("outcome", "ok"), ("protocol", "http"), ("route", "infer"))
    assert (await values(metrics))["pillion_requests_total", where] == 1


async def test_a_failed_configuration_load_is_shown() -> None:
    metrics = Metrics("1.2.3")
    assert (await values(metrics))["pillion_config_last_reload_successful", ()] == 1
    metrics.is_config_current = False
    assert (await values(metrics))["pillion_config_last_reload_successful", ()] == 0


def test_names_follow_the_rules_of_the_field() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert entry.name.endswith("_total") == (entry.kind == "counter"), entry.name
        assert bool(entry.buckets) == (entry.kind == "histogram"), entry.name
        assert list(entry.buckets) == sorted(set(entry.buckets)), entry.name
        assert not any(unit in entry.name for unit in ("_ms", "millis", "_kb", "_mb")), entry.name


def test_the_documentation_lists_what_the_code_exposes() -> None:
    make = "from proxy.telemetry.catalogue import as_markdown; print(as_markdown(), end='')"
    assert DOCS.read_text() == as_markdown(), f'stale; run: python -c "{make}" > docs/metrics.md'
