"""What the loading policy is worth: traces replayed under it and under what others do.

Nothing is measured on a wall clock but the policy's own cost: a replay is a simulation of the production
planner, and gives the same numbers on every machine."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from bench.replays import Replays, Restart, Scene
from bench.report import RESULTS, Report
from bench.suites.loading_cost import cost
from bench.tables import markdown
from bench.traces import bursts
from proxy.loading.chart import plot
from proxy.loading.comparison import table
from proxy.loading.policy import LoadingPolicy
from proxy.loading.replay import read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.loading.simulate import Result

__all__ = ("loading",)

_DATA = Path(__file__).parent.parent / "data"
_GB = 10**9
_HOUR = 3600.0
_IDLE = frozenset(
    {"TTL 5 min", "TTL 20 min", "TTL 60 min", "hybrid histogram", "pillion, demand", "pillion, predictive"}
)


def _scenes() -> list[Scene]:
    functions = read_trace(str(_DATA / "azure_functions_2019.csv.gz")).arrivals
    services = read_trace(str(_DATA / "azure_llm_2023.csv.gz")).arrivals
    return [
        Scene("functions", "200 functions, one day (Azure 2019)", functions, (250, 300, 400), 3 * _HOUR),
        Scene(
            "bursts", "87 models in bursts, 14 days (made from a seed)", bursts(1), (28, 56, 112), 24 * _HOUR
        ),
        Scene("services", "two LLM services, one hour, one place (Azure 2023)", services, (7,), -inf),
    ]


async def loading(folder: Path = RESULTS) -> Report:
    """Replay every trace; about two minutes on two cores."""
    report = Report(
        "loading", "How long do requests wait for cold models, under this policy and under what others do?"
    )
    report.notes.append(
        "sizes (2.1, 4.3, 6.9 GB) and load times (2.6 to 42 s) are assigned by the CRC-32 of a model's name; "
        "one load runs at a time; requests wait without limit; the first hours are played but not counted"
    )
    scenes = _scenes()
    functions, in_bursts, _ = scenes
    with Replays() as replays:
        for scene in scenes:
            _budgets(report, replays, scene, folder)
        _idleness(report, replays, functions, folder)
        _harm(report, replays, scenes)
        _restarts(report, replays, functions, in_bursts)
    cost(report, in_bursts.trace, _policy(in_bursts.middle, mode="predictive"), _policy(0, mode="predictive"))
    return report


def _policy(budget: int = 0, **changes: object) -> LoadingPolicy:
    return LoadingPolicy().model_copy(update={"mode": "demand", "budget": budget * _GB, **changes})


# ------------------------------------------------------------------ memory budgets
def _budgets(report: Report, replays: Replays, scene: Scene, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for budget in scene.budgets:
        rows = replays.rows(scene, _policy(budget))
        results = {row.name: row.result for row in rows}
        report.section(f"{scene.title}, {budget} GB", table(rows))
        report.data[f"{scene.name} {budget} GB"] = {name: _numbers(each) for name, each in results.items()}
        ours = results["pillion, demand"].mean_wait
        if len(scene.budgets) > 1:
            claim = f"{scene.name}, {budget} GB: mean wait over GDSF's is at most 1.02"
            report.objective(claim, [ours / results["GDSF"].mean_wait], most=1.02)
        if "pillion, may evict" in results and len(scene.budgets) > 1:
            claim = f"{scene.name}, {budget} GB: mean wait with predictions that may evict over without any"
            report.objective(claim, [results["pillion, may evict"].mean_wait / ours], most=1.0)
        if budget == scene.middle and len(scene.budgets) > 1:
            (folder / f"loading_{scene.name}.svg").write_text(plot(rows, f"{scene.title}, {budget} GB"))
            claim = f"{scene.name}, {budget} GB: mean wait over LRU's is at most 0.80"
            report.objective(claim, [ours / results["LRU"].mean_wait], most=0.80)


# ------------------------------------------------------------------ no budget: unloading what is idle
def _idleness(report: Report, replays: Replays, scene: Scene, folder: Path) -> None:
    """Periodic functions, memory counted by the hour."""
    rows = replays.rows(scene, _policy(idle_unload="auto"), _IDLE)
    report.section(f"{scene.title}, idle models unloaded, no budget", table(rows))
    results = {row.name: row.result for row in rows}
    report.data["functions, idle"] = {name: _numbers(each) for name, each in results.items()}
    (folder / "loading_idle.svg").write_text(plot(rows, "idle models unloaded: memory against waiting"))
    ours, fixed = results["pillion, predictive"], results["TTL 20 min"]
    report.objective("loads ahead that somebody used", [100 * (ours.precision or 0)], least=95, unit="%")
    report.objective("memory over that of TTL 20 min", [ours.gib_h / fixed.gib_h], most=1.0)
    report.objective("cold rate over that of TTL 20 min", [ours.cold_rate / fixed.cold_rate], most=1.0)


# ------------------------------------------------------------------ prediction does no harm
def _harm(report: Report, replays: Replays, scenes: Sequence[Scene]) -> None:
    cases = [(scene, *setting) for scene in scenes for setting in _SETTINGS]
    begun = [
        [
            replays.start(scene, _policy(scene.middle, **changes), name)
            for name in ("pillion, demand", contestant)
        ]
        for scene, _, changes, contestant in cases
    ]
    cells = []
    for (scene, name, _, _), both in zip(cases, begun, strict=True):
        off, on = (each.result() for each in both)
        points = 100 * (on.cold_rate - off.cold_rate)
        precision = "–" if on.precision is None else f"{100 * on.precision:.0f} %"
        rates = tuple(f"{100 * each.cold_rate:.3f}" for each in (off, on))
        waits = tuple(f"{each.mean_wait:.3f}" for each in (off, on))
        cells.append((f"{scene.name}, {name}", *rates, *waits, precision))
        claim = f"{scene.name}, {name}: cold starts added by prediction are at most 1 %"
        report.objective(claim, [points / max(100 * off.cold_rate, 1e-9) * 100], most=1.0, unit="%")
    head = ("", "cold % without", "with", "mean wait s without", "with", "used")
    report.section("With and without prediction", markdown(head, cells))


_SETTINGS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("free memory only", {}, "pillion, predictive"),
    ("may evict", {}, "pillion, may evict"),
    ("idle unloaded", {"idle_unload": "auto"}, "pillion, predictive"),
)


# ------------------------------------------------------------------ restarts
def _restarts(report: Report, replays: Replays, functions: Scene, in_bursts: Scene) -> None:
    """Everything is lost once; traffic comes back after a while, as readiness allows."""
    cases = [
        (scene, budget, Restart(at, pause))
        for scene, at, pauses in (
            (functions, 12 * _HOUR, (300.0, _LONG_PAUSE_S)),
            (in_bursts, 7 * 24 * _HOUR, (_LONG_PAUSE_S,)),
        )
        for budget in scene.budgets[1:]
        for pause in pauses
    ]
    begun = [
        [replays.restart(scene, _policy(budget, mode=mode), restart) for mode in _HOW]
        for scene, budget, restart in cases
    ]
    cells = []
    for (scene, budget, restart), each_way in zip(cases, begun, strict=True):
        never, without, ahead = results = [each.result() for each in each_way]
        lost = len(without.waits) - len(never.waits)
        share = 100 * (len(without.waits) - len(ahead.waits)) / max(1, lost)
        name = f"{scene.name}, {budget} GB, traffic back after {restart.pause_s / 60:.0f} min"
        counts = tuple(f"{len(each.waits):,}" for each in results)
        waits = tuple(f"{each.mean_wait:.3f}" for each in results)
        cells.append((name, *counts, *waits, f"{share:.0f} %"))
        if restart.pause_s == _LONG_PAUSE_S:
            claim = f"{name}: cold starts of the restart that loading ahead recovers"
            report.objective(claim, [share], least=80, unit="%")
    head = ("", "cold: no restart", "restart", "ahead", "wait s: no restart", "restart", "ahead", "recovered")
    report.section("After a restart", markdown(head, cells))


_HOW = ("off", "demand", "predictive")
_LONG_PAUSE_S = 1800.0


def _numbers(result: Result) -> dict[str, float | None]:
    return {
        "requests": result.requests,
        "cold_rate": round(result.cold_rate, 6),
        "mean_wait_s": round(result.mean_wait, 4),
        "p95_s": round(result.wait_quantile(0.95), 3),
        "p99_s": round(result.wait_quantile(0.99), 3),
        "model_cold_p75": round(result.model_cold_quantile(0.75), 6),
        "loads": result.loads,
        "load_s": round(result.load_s, 1),
        "churned": result.churned,
        "gib_h": round(result.gib_h, 1),
        "precision": result.precision,
    }
