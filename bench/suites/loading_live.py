"""Real loads on real servers: what a first request waits, and whether a load holds others up.

Ten forests that take about 1.7 s to load stand behind an unmodified MLServer whose memory holds six. Two
are asked all the time, six by timers, two now and then (`bench.live_traffic`).

*First requests* are those after ten seconds without one for the same model, from the 45th second on; they
are compared under three ways to run such a server:

* ``none``: no loader. The operator has loaded six models for good, the two that are asked all the time and
  four of the timers; whoever asks for another is told that it does not exist.
* ``demand`` and ``predictive``: Pillion with that mode, a history of the two hours before (played through
  the production planner, as its snapshot would hold it), models unloaded after 8 s of idleness, and, in the
  second, predictions that may evict. The two run at the same time, each server on a core of its own.

*Others* are compared while one model is loaded and unloaded all the time: by hand at the server's own port,
and by Pillion. MLServer loads on its event loop, and answers nobody meanwhile; so the same is done with a
runtime that loads in a thread, and with the demo server, whose loads cost nothing: what is left there is
Pillion's own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from bench.forests import NAMES, train_forests
from bench.live_load import Answer, Loads, drive, past
from bench.live_traffic import Roles, traffic
from bench.report import Report
from bench.statistics import interleaved, spread
from bench.subjects import demo
from bench.suites.common import Options, open_loop, valid_pairs
from bench.tables import markdown, milliseconds
from proxy.demo.client import post
from proxy.demo.models import sample_images
from proxy.demo.processes import child
from proxy.loading.history_file import write_file
from tests.support.mlserver import RUNTIME, infer_body, mlserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.suites.common import Measured

__all__ = ("loading_live",)

ROLES = Roles(hot=NAMES[:2], timers=NAMES[2:8], strays=NAMES[8:])
PLACES = 6
SPAN_S = 120.0
COUNT_FROM_S = 45.0
NONE_S = 65.0
PAST_S = 7200.0
PAST_HOT_RATE = 0.5
READY_S = 8.0
CASES = ("direct", "direct, loads by hand", "Pillion", "Pillion, its loads")
THREADED = "bench.threaded_sklearn.ThreadedSKLearn"
WAYS = ("none", "demand", "predictive")
LEARNED = ("demand", "predictive")
DEMO_LOAD_S = 1.7
_ROW = [image for image, _ in sample_images()][:1]
BODY = infer_body(_ROW, "1")

CONFIG = """version: 1
server: {{http: {{listen: "127.0.0.1:0"}}, admin: {{listen: "127.0.0.1:0"}}}}
upstreams: {{model: {{protocol: {protocol}, http: ["{url}"]}}}}
models: {{"*": {{batch: {{mode: "off"}}}}}}
observe: {{access_log: {{format: "off"}}}}
loading: {{control: {{every: 2s}}, {loading}}}
"""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A running Pillion."""

    url: str
    admin: str
    pid: int


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the forests are and what one takes in memory; where files go; how long, and on which core."""

    folder: Path
    size: int
    scratch: Path
    span_s: float
    core: int


async def loading_live(options: Options, *, span_s: float = SPAN_S, models: Path | None = None) -> Report:
    """Run the suite; needs the extra ``real``. `models` keeps the forests from run to run."""
    report = Report("loading-live", "What does a first request wait, and who else waits for a load?")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as scratch:
        folder = models or Path(scratch) / "forests"
        size = train_forests(folder)
        await _firsts(report, options, Spot(folder, size, Path(scratch), span_s, 0))
        await _others(report, folder, options)
    return report


# ----------------------------------------------------------------- first requests
async def _firsts(report: Report, options: Options, spot: Spot) -> None:
    cores = (options.cores.backend, options.cores.proxy)
    found = {"none": await _one_way("none", replace(spot, span_s=min(spot.span_s, NONE_S), core=cores[0]))}
    both = [  # at the same time, each with a core of its own
        _one_way(way, replace(spot, core=core)) for way, core in zip(LEARNED, cores, strict=True)
    ]
    found.update(zip(LEARNED, await asyncio.gather(*both), strict=True))
    firsts = {way: [a for a in answers if a.shot.is_first] for way, answers in found.items()}
    hot = {way: [a for a in answers if a.shot.model in ROLES.hot] for way, answers in found.items()}
    rows = []
    for way in WAYS:
        good = [1000 * a.latency_s for a in firsts[way] if a.status == 200]
        refused = len(firsts[way]) - len(good)
        rows.append(
            [way, str(len(firsts[way])), str(refused), *_quantiles(good), *_quantiles(_spans(hot[way]))[1:]]
        )
    head = [
        "",
        "first requests",
        "refused",
        "mean, ms",
        "p50, ms",
        "p99, ms",
        "hot models: p50, ms",
        "p99, ms",
    ]
    report.section(
        f"First requests, {spot.span_s:.0f} s of traffic for ten models, {PLACES} of them in memory",
        markdown(head, rows),
    )
    report.notes.append("first requests are few: their p99 is the worst of them")
    demand, ahead = (_spans(firsts[way]) for way in LEARNED)
    claim = "first requests: mean with prediction over mean on demand is at most 1"
    report.objective(claim, [_mean(ahead) / _mean(demand)] if demand and ahead else [], most=1.0)
    for way in LEARNED:
        refused = sum(a.status != 200 for a in found[way])
        report.objective(f"requests refused or failed, {way}", [refused], most=0)
    report.data["firsts"] = {
        way: [[round(a.shot.at_s, 3), a.shot.model, a.status, round(1000 * a.latency_s, 2)] for a in answers]
        for way, answers in firsts.items()
    }  # fmt: skip


async def _one_way(way: str, spot: Spot) -> list[Answer]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(mlserver(spot.folder, is_empty=True, core=spot.core))
        url, begin_in_s = server.url, 1.0
        if way in LEARNED:
            begin_in_s = READY_S
            url = (await stack.enter_async_context(_with_past(way, server.url, spot))).url
        else:
            loads = Loads(await stack.enter_async_context(aiohttp.ClientSession()))
            for name in NAMES[:PLACES]:
                await loads.by_hand(url, name)
        shots = traffic(ROLES, 0.0, spot.span_s)
        answers = await drive(url, shots, BODY, begin_in_s=begin_in_s)
    return [answer for answer in answers if answer.shot.at_s >= COUNT_FROM_S]


@asynccontextmanager
async def _with_past(way: str, url: str, spot: Spot) -> AsyncIterator[Sidecar]:
    """Pillion in mode `way`, knowing the traffic of the two hours before it takes over."""
    history, size = spot.scratch / f"{way}.json", spot.size
    before = traffic(ROLES, -PAST_S, 0.0, hot_rate=PAST_HOT_RATE)
    write_file(str(history), past(before, begin_in_s=READY_S, load_s=DEMO_LOAD_S, size=size))
    sizes = ", ".join(f"{name}: {{size: {size}B}}" for name in NAMES)
    loading = (
        f"mode: {way}, budget: {PLACES * size}B, may_evict: true, idle_unload: 8s, "
        f"history: {{file: {history}}}, models: {{{sizes}}}"
    )
    async with _sidecar(url, "open-inference", loading) as sidecar:
        yield sidecar


@asynccontextmanager
async def _sidecar(url: str, protocol: str, loading: str, core: int | None = None) -> AsyncIterator[Sidecar]:
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "pillion.yaml"
        config.write_text(CONFIG.format(url=url, protocol=protocol, loading=loading), encoding="utf-8")
        command = (sys.executable, "-m", "proxy", "serve", "-c", str(config))
        async with child(command, _Listening(), core=core) as process:
            yield Sidecar(process.ready["http"], process.ready["admin"], process.pid)


class _Listening:
    """True of the last line that `serve` prints when it is ready: where its listeners are."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __call__(self, line: str) -> dict[str, str] | None:
        words = line.split()
        if words[:1] == ["pillion"] and words[2:4] == ["listening", "on"]:
            self._found[words[1]] = words[4]
        return self._found if "admin" in self._found else None


# ----------------------------------------------------------------- who else waits
@dataclass(frozen=True, slots=True)
class Stage:
    """A server with loaded models (`hot`) and one that is loaded and unloaded (`cold`)."""

    title: str
    url: str
    hot: tuple[str, ...]
    cold: str
    rate: float
    """Requests per second to the loaded ones."""


async def _others(report: Report, folder: Path, options: Options) -> None:
    """Requests to loaded models, without loads and with one after the other."""
    for title, runtime in (("MLServer", RUNTIME), ("MLServer, loading in a thread", THREADED)):
        async with mlserver(folder, is_empty=True, runtime=runtime, core=options.cores.backend) as server:
            found = await _stage(Stage(title, server.url, ROLES.hot, NAMES[-1], 40.0), options)
        _report_others(report, title, found)
        pairs = (("Pillion, its loads", "direct, loads by hand"), ("direct, loads by hand", "direct"))
        for claim, pair in zip(
            ("Pillion's loads over loads by hand", "loads by hand over none"), pairs, strict=True
        ):
            report.objective(
                f"{title}: p99 of others, {claim}, is at most 1.10", _grown(found, *pair), most=1.10
            )
    async with demo(options.cores.backend, "--model", f"cold=sum:{DEMO_LOAD_S}") as free:
        title = "a server whose loads cost nothing"
        found = await _stage(Stage(title, free.url, ("digits",), "cold", 150.0), options)
    _report_others(report, title, found)
    claim = f"{title}: p99 of others, Pillion's loads over none, is at most 1.10"
    report.objective(claim, _grown(found, "Pillion, its loads", "Pillion"), most=1.10)


async def _stage(stage: Stage, options: Options) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = defaultdict(list)
    async with (
        aiohttp.ClientSession() as session,
        _sidecar(stage.url, "open-inference", "mode: demand") as sidecar,
    ):
        loads = Loads(session)
        for name in stage.hot:
            await loads.by_hand(stage.url, name)
        await loads.until_listed(sidecar.admin, stage.cold)
        for name in interleaved(CASES, options.rounds):
            url = sidecar.url if "Pillion" in name else stage.url
            cycle, control = (
                (loads.by_admin, sidecar.admin) if "Pillion" in name else (loads.by_hand, stage.url)
            )
            requests = [post(url, f"/v2/models/{model}/infer", BODY) for model in stage.hot]
            async with AsyncExitStack() as during:
                if "loads" in name:
                    await during.enter_async_context(loads.again_and_again(cycle, control, stage.cold))
                core = options.cores.proxy  # the server's own core is what loads keep busy
                found[name].append(
                    await open_loop(url, requests, rate=stage.rate, options=options, core=core)
                )
    return found


def _grown(found: dict[str, list[Measured]], one: str, other: str) -> list[float]:
    """p99 over p99, round by round."""
    pairs = valid_pairs(found[one], found[other])
    return [this.quantiles["p99"] / that.quantiles["p99"] for this, that in pairs]


def _report_others(report: Report, title: str, found: dict[str, list[Measured]]) -> None:
    rows = [
        [
            name,
            milliseconds(spread([each.p50 for each in rounds])),
            milliseconds(spread([each.quantiles["p99"] for each in rounds])),
            str(sum(sum(each.result.errors.values()) for each in rounds)),
            f"{sum(each.invalid is None for each in rounds)}/{len(rounds)}",
        ]
        for name, rounds in found.items()
    ]
    head = ["", "p50, ms", "p99, ms", "errors", "valid rounds"]
    report.section(f"Requests to loaded models: {title}", markdown(head, rows))
    report.data[title] = {name: [each.document() for each in rounds] for name, rounds in found.items()}


# ----------------------------------------------------------------- figures
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
