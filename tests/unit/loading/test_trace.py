"""Traces: every format, and what is wrong with the others."""

import gzip
import json
from pathlib import Path

import pytest

from proxy.loading.history import History
from proxy.loading.policy import LoadingPolicy
from proxy.loading.replay import read_trace, replay, worlds
from proxy.loading.simulate import Model, assign
from proxy.loading.trace import parse_trace
from tests.unit.loading.worlds import GIB, START, model, policy


def snapshot() -> History:
    history = History()
    for n in range(5):
        past = history.of("a", START)
        past.arrived(START + 100 * n, is_idle=True)
        history.ended("a", START + 100 * n + 1, 1.0)
    history.models["a"].cost.measured(7.0)
    history.models["a"].cost.reported(123)
    return history


def test_reads_a_history() -> None:
    trace = parse_trace(json.dumps(snapshot().dump(), separators=(",", ":")))
    assert trace.arrivals[0] == (START, "a", 1.0)
    assert len(trace.arrivals) == 5
    assert trace.costs["a"].seconds == 7.0


def test_reads_an_access_log() -> None:
    lines = [
        '{"ts":"2026-01-01T00:00:10Z","model":"b","ms":{"total":2000.0}}',
        '{"ts":"2026-01-01T00:00:05.500Z","model":"a","ms":{"total":500}}',
        '{"ts":"2026-01-01T00:00:06Z","model":"","ms":{"total":1}}',
        '{"ts":"yesterday","model":"a"}',
        "not json",
    ]
    arrivals = parse_trace("\n".join(lines)).arrivals
    assert [(name, run_s) for _, name, run_s in arrivals] == [("a", 0.5), ("b", 2.0)]
    assert arrivals[1][0] - arrivals[0][0] == 3.0


def test_reads_instants() -> None:
    assert parse_trace("t_s,model\n2,b\n1,a\n").arrivals == [(1.0, "a", 0.0), (2.0, "b", 0.0)]
    assert parse_trace("model,t_s,run_s\na,1,0.5\nb,2,\n").arrivals == [(1.0, "a", 0.5), (2.0, "b", 0.0)]


def test_reads_a_grid() -> None:
    text = "model,run_s,tick_s,offset_s,ticks\na,0.5,60,7,0-2 10 20-30/5\n"
    instants = [at for at, _, _ in parse_trace(text).arrivals]
    assert instants == [60.0 * n + 7 for n in (0, 1, 2, 10, 20, 25, 30)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected"),
        ("a,b\n1,2\n", "columns t_s and model"),
        ("t_s,model\n", "no arrivals"),
        ("t_s,model\nx,a\n", "could not convert"),
        ("model,tick_s,offset_s,run_s,ticks\na,60\n", "line 2"),
        ('{"version":9}', "version 9"),
        ("{}\n{}\n", "no arrivals"),
    ],
)
def test_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_trace(text)


def test_declared_costs_win_over_measured_over_assigned() -> None:
    trace = parse_trace(json.dumps(snapshot().dump(), separators=(",", ":")))
    trace.arrivals.append((START, "unknown", 0.0))
    cost, guessed = worlds(trace, policy())
    assert (cost("a"), guessed) == (Model(7.0, 123), 1)
    assert cost("unknown") == assign("unknown")
    declared, _ = worlds(trace, policy(models={"a": model(load_time=3.0)}))
    assert declared("a") == Model(3.0, GIB)
    size_alone, _ = worlds(trace, policy(models={"unknown": model(load_time=None)}))
    assert size_alone("unknown") == Model(assign("unknown").load_s, GIB)


def test_replays_a_file_and_plots_it(tmp_path: Path) -> None:
    source, picture = tmp_path / "trace.csv.gz", tmp_path / "plot.svg"
    source.write_bytes(gzip.compress(b"t_s,model\n0,a\n3600,b\n7200,a\n"))
    text = replay(str(source), LoadingPolicy(), str(picture))
    assert text.startswith("3 requests for 2 models in 2.0 h")
    assert "2 models without a known size" in text
    assert picture.read_text().startswith("<svg")
    plain = tmp_path / "history.json"
    plain.write_text(json.dumps(snapshot().dump(), separators=(",", ":")))
    assert "without" not in replay(str(plain), LoadingPolicy())


@pytest.mark.parametrize(
    ("name", "requests", "models"), [("azure_functions_2019", 51_981, 200), ("azure_llm_2023", 28_185, 2)]
)
def test_the_shipped_traces_are_whole(name: str, requests: int, models: int) -> None:
    arrivals = read_trace(f"bench/data/{name}.csv.gz").arrivals
    assert (len(arrivals), len({model_name for _, model_name, _ in arrivals})) == (requests, models)
