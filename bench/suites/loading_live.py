"""Real loads on real servers: what a first request waits.

Ten forests that take about 1.7 s to load stand behind an unmodified MLServer whose memory holds six. Two
are asked all the time, six by timers, two now and then (`bench.live_traffic`). *First requests* are those
after ten seconds without one for the same model; they are compared under three ways to run such a server:

* ``none``: no loader. The operator has loaded six models for good, the two that are asked all the time and
  four of the timers; whoever asks for another is told that it does not exist.
* ``demand`` and ``predictive``: Pillion with that mode, a history of the two hours before (played through
  the production planner, as its snapshot would hold it), models unloaded after 8 s of idleness, and, in the
  second, predictions that may evict. They count from the 45th second on, when every timer has shot once:
  what is loaded again after a start is not what this is about.

One after the other, on a server with a core of its own. MLServer answers nobody while it loads, so a first
request may wait although its model is there, for the load of another."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from bench.forests import NAMES, train_forests
from bench.live_load import Answer, Loads, drive, past
from bench.live_sidecar import Sidecar, sidecar
from bench.live_traffic import Roles, traffic
from bench.report import Report
from bench.tables import markdown
from proxy.demo.models import sample_images
from proxy.loading.history_file import write_file
from tests.support.mlserver import infer_body, mlserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.machine import Cores
    from bench.suites.common import Options

__all__ = ("loading_live",)

ROLES = Roles(hot=NAMES[:2], timers=NAMES[2:8], strays=NAMES[8:])
PLACES = 6
SPAN_S = 100.0
COUNT_FROM_S = 45.0
NONE_S = 20.0
PAST_S = 7200.0
PAST_HOT_RATE = 0.5
READY_S = 8.0
LOAD_S = 1.7
LOADED_S = 0.2
"""An answer that took no longer did not wait for a load."""
WAYS = ("none", "demand", "predictive")
LEARNED = ("demand", "predictive")
_ROW = [image for image, _ in sample_images()][:1]
BODY = infer_body(_ROW, "1")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the forests are and what one takes in memory; where files go; how long, and on which cores."""

    folder: Path
    size: int
    scratch: Path
    span_s: float
    cores: Cores


async def loading_live(options: Options, *, span_s: float = SPAN_S, models: Path | None = None) -> Report:
    """Run the suite, about four minutes; needs the extra ``real``. `models` keeps the forests."""
    report = Report("loading-live", "What does a first request wait for a model that has to be loaded?")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as scratch:
        folder = models or Path(scratch) / "forests"
        spot = Spot(folder, train_forests(folder), Path(scratch), span_s, options.cores)
        found = {way: await _one_way(way, spot) for way in WAYS}
    _report(report, found, spot)
    return report


async def _one_way(way: str, spot: Spot) -> list[Answer]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            mlserver(spot.folder, is_empty=True, core=spot.cores.backend)
        )
        if way in LEARNED:
            url = (await stack.enter_async_context(_with_past(way, server.url, spot))).url
            answers = await drive(url, traffic(ROLES, 0.0, spot.span_s), BODY, begin_in_s=READY_S)
            return [answer for answer in answers if answer.shot.at_s >= COUNT_FROM_S]
        loads = Loads(await stack.enter_async_context(aiohttp.ClientSession()))
        for name in NAMES[:PLACES]:
            await loads.by_hand(server.url, name)
        return await drive(server.url, traffic(ROLES, 0.0, NONE_S), BODY, begin_in_s=1.0)


@asynccontextmanager
async def _with_past(way: str, url: str, spot: Spot) -> AsyncIterator[Sidecar]:
    """Pillion in mode `way`, knowing the traffic of the two hours before it takes over."""
    history, size = spot.scratch / f"{way}.json", spot.size
    before = traffic(ROLES, -PAST_S, 0.0, hot_rate=PAST_HOT_RATE)
    write_file(str(history), past(before, begin_in_s=READY_S, load_s=LOAD_S, size=size))
    sizes = ", ".join(f"{name}: {{size: {size}B}}" for name in NAMES)
    loading = (
        f"mode: {way}, budget: {PLACES * size}B, may_evict: true, idle_unload: 8s, "
        f"history: {{file: {history}}}, models: {{{sizes}}}"
    )
    async with sidecar(url, loading, spot.cores.proxy) as running:
        yield running


# ----------------------------------------------------------------- figures
def _report(report: Report, found: dict[str, list[Answer]], spot: Spot) -> None:
    firsts = {way: [a for a in answers if a.shot.is_first] for way, answers in found.items()}
    rows = []
    for way in WAYS:
        good = _spans(firsts[way])
        hot = _spans([a for a in found[way] if a.shot.model in ROLES.hot])
        warm = sum(span <= 1000 * LOADED_S for span in good)
        counts = (len(firsts[way]), len(firsts[way]) - len(good), warm)
        rows.append([way, *map(str, counts), *_quantiles(good), *_quantiles(hot)[1:]])
    head = [
        "",
        "first requests",
        "refused",
        f"answered in {1000 * LOADED_S:.0f} ms",
        "mean, ms",
        "p50, ms",
        "p99, ms",
        "hot models: p50, ms",
        "p99, ms",
    ]
    title = f"First requests, {spot.span_s:.0f} s of traffic for ten models, {PLACES} of them in memory"
    report.section(title, markdown(head, rows))
    report.notes.append("first requests are few: their p99 is the worst of them")
    demand, ahead = (_spans(firsts[way]) for way in LEARNED)
    claim = "first requests: mean with prediction over mean on demand is at most 0.75"
    report.objective(claim, [_mean(ahead) / _mean(demand)] if demand and ahead else [], most=0.75)
    for way in LEARNED:
        failed = sum(a.status != 200 for a in found[way])
        report.objective(f"requests refused or failed, {way}", [failed], most=0)
    report.data["firsts"] = {
        way: [[round(a.shot.at_s, 3), a.shot.model, a.status, round(1000 * a.latency_s, 2)] for a in answers]
        for way, answers in firsts.items()
    }  # fmt: skip


def _spans(answers: list[Answer]) -> list[float]:
    return [1000 * answer.latency_s for answer in answers if answer.status == 200]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def _quantiles(values: list[float]) -> tuple[str, str, str]:
    """Mean, median and 99th percentile."""
    if not values:
        return "–", "–", "–"
    ranked = sorted(values)
    p99 = ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))]
    return f"{_mean(ranked):,.1f}", f"{ranked[len(ranked) // 2]:,.1f}", f"{p99:,.1f}"
