"""Histograms, verdicts, tables, wrk's report, the load verb's request."""

import json
from pathlib import Path

import msgspec
import pytest

from bench.generator.spec import LoadResult, LoadSpec, verdict
from bench.latency import decoded, encoded, merged, quantile_ms, quantiles_ms
from bench.load import WrkResult, parse_wrk
from bench.report import Report
from bench.statistics import Spread
from bench.suites.load import LoadOptions, request_bytes
from bench.tables import count, factor, markdown, milliseconds


def test_a_histogram_survives_its_journey() -> None:
    histogram = decoded(encoded([i / 1000 for i in range(1, 101)]))
    assert histogram.get_total_count() == 100
    assert quantile_ms(histogram, 50) == pytest.approx(50, rel=0.001)
    found = quantiles_ms(histogram)
    assert list(found) == ["p50", "p90", "p99", "p99.9", "max"]
    assert found["max"] == pytest.approx(100, rel=0.001)


def test_latencies_out_of_range_are_kept_at_its_ends() -> None:
    histogram = decoded(encoded([0.0, 3600.0]))
    assert histogram.get_total_count() == 2
    assert histogram.get_min_value() == 1
    assert quantile_ms(histogram, 100) == pytest.approx(60_000, rel=0.001)


def test_rounds_merge() -> None:
    both = merged([encoded([0.001] * 3), encoded([0.1])])
    assert both.get_total_count() == 4
    assert quantile_ms(both, 75) == pytest.approx(1, rel=0.001)


def test_an_idle_generator_on_time_is_valid() -> None:
    assert verdict(LoadResult(due=1000, answered=1000, late=10, cpu_share=0.8, is_open=True)) is None
    assert verdict(LoadResult(due=0, answered=1, cpu_share=0.99)) is None


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (LoadResult(due=1000, answered=1, late=11, is_open=True), "late on 1.1% of its sends"),
        (LoadResult(due=1000, answered=1, cpu_share=0.9, is_open=True), "used 90% of its core"),
        (LoadResult(due=1000, late=500), "nothing was answered"),
    ],
)
def test_a_generator_that_measures_itself_says_so(result: LoadResult, words: str) -> None:
    assert words in str(verdict(result))


def test_the_rate_counts_what_finished_in_time() -> None:
    assert LoadResult(seconds=2.0, finished=300, ok=310).rate == 150
    assert LoadResult().rate == 0


def test_a_fifth_of_the_time_warms_up() -> None:
    def spec(seconds: float, warm_up_s: float | None = None) -> LoadSpec:
        return LoadSpec(url="", requests=[], connections=1, seconds=seconds, warm_up_s=warm_up_s)

    assert (spec(2).warm_up, spec(60).warm_up, spec(60, 0.0).warm_up) == (0.4, 1.0, 0.0)


def test_a_specification_survives_its_journey() -> None:
    spec = LoadSpec(url="http://x", requests=[b"\x00\xff"], connections=2, seconds=1.5)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=LoadSpec) == spec


def test_tables() -> None:
    assert markdown(["", "a"], [["x", "1"]]) == "|  | a |\n| :-- | --: |\n| x | 1 |"
    value = Spread(1234.5678, 1000, 2000)
    assert count(value) == "1,235 (1,000 … 2,000)"
    assert factor(value) == "1234.57 (1000.00 … 2000.00)"
    assert milliseconds(Spread(0.1234, 0.1, 0.2)) == "0.123 (0.100 … 0.200)"


def test_wrk_report() -> None:
    clean = "  100 requests in 1.00s, 1.00MB read\nRequests/sec:  36123.45\nTransfer/sec:      3.00MB\n"
    assert parse_wrk(clean) == WrkResult(100, 36123.45, 0)
    bad = "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 10\n"
    assert parse_wrk(bad + clean).errors == 17
    with pytest.raises(ValueError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1")


def options(**given: object) -> LoadOptions:
    plain: dict[str, object] = {
        "server": "http://h:1", "target": "/p?q", "method": "GET", "headers": (), "body": b"",
        "connections": 1, "rate": 0.0, "is_constant": False, "seconds": 1.0,
    }  # fmt: skip
    return LoadOptions(**{**plain, **given})  # type: ignore[arg-type]  # any field by its name


def test_the_load_verbs_request() -> None:
    assert request_bytes(options()) == b"GET /p?q HTTP/1.1\r\nHost: h:1\r\n\r\n"
    headers = ("content-type: text/plain", "X-A:b", "HOST: other")
    assert request_bytes(options(method="POST", body=b"hi", headers=headers)) == (
        b"POST /p?q HTTP/1.1\r\nHost: other\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi"
    )


def test_a_report_is_written_for_people_and_programs(tmp_path: Path) -> None:
    report = Report("name", "Why?", data={"x": 1}, notes=["left out: nginx"])
    report.section("One", "| table |")
    report.objective("fast", [9.0, 8.0, 10.0], most=9, unit="ms")
    report.objective("faster", [9.0, 8.0, 10.0], most=8.9, unit="ms")
    report.objective("more", [1.5], least=1.5)
    report.objective("unknown", [])
    text = report.write(tmp_path / "new").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "new" / "name.json").read_text(encoding="utf-8"))
    for part in (
        "# name",
        "Why?",
        "- **Mind**: left out: nginx",
        "## One",
        "| faster | 9 (8 … 10) ms | **no** |",
    ):
        assert part in text
    assert document["x"] == 1
    assert document["objectives"][0] == {"claim": "fast", "found": "9 (8 … 10) ms", "is_met": True}
    assert [aim["is_met"] for aim in document["objectives"]] == [True, False, True, False]
    assert document["objectives"][3]["found"] == "no valid round"
    assert {"cpu", "cores", "kernel", "python", "packages", "pinned"} <= document["machine"].keys()
