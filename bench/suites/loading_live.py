"""Real loads on real servers: what a first request waits, and whether a load holds others up.

Ten forests that take about 1.7 s to load stand behind an unmodified MLServer whose memory holds six. Two
are asked all the time, six by timers, two now and then (`bench.live_traffic`).

*First requests* are compared under four ways to run such a server:

* ``none``: no loader. The operator has loaded six models for good, the two that are asked all the time and
  four of the timers; whoever asks for another is told that it does not exist.
* ``demand`` and ``predictive``: Pillion with that mode, a history of the two hours before (played through
  the production planner, as its snapshot would hold it), models unloaded after 8 s of idleness, and, in the
  second, predictions that may evict.
* ``all loaded``: memory without end, which is the floor.

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from bench.forests import NAMES, train_forests
from bench.live_load import Answer, Loads, drive, past
from bench.live_traffic import Roles, traffic
from bench.report import Report
from bench.statistics import interleaved, spread
from bench.subjects import Running, demo
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
SPAN_S = 90.0
COUNT_FROM_S = 10.0
PAST_S = 7200.0
PAST_HOT_RATE = 0.5
READY_S = 12.0
OTHERS_RATE = 40.0
THREADED = "bench.threaded_sklearn.ThreadedSKLearn"
WAYS = ("none", "demand", "predictive", "all loaded")
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


async def loading_live(options: Options, *, span_s: float = SPAN_S, models: Path | None = None) -> Report:
    """Run the suite; needs the extra ``real``. `models` keeps the forests from run to run."""
    report = Report("loading-live", "What does a first request wait, and who else waits for a load?")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as scratch:
        folder = models or Path(scratch) / "forests"
        size = train_forests(folder)
        await _firsts(report, folder, size, span_s, Path(scratch))
        await _others(report, folder, options, Path(scratch))
    return report


# ----------------------------------------------------------------- first requests
async def _firsts(report: Report, folder: Path, size: int, span_s: float, scratch: Path) -> None:
    found = {way: await _one_way(way, folder, size, span_s, scratch) for way in WAYS}
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
        f"First requests, {span_s:.0f} s of traffic for ten models, {PLACES} of them in memory",
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


async def _one_way(way: str, folder: Path, size: int, span_s: float, scratch: Path) -> list[Answer]:
    shots = traffic(ROLES, 0.0, span_s if way in LEARNED else 0.5 * span_s)  # the others do not change
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(mlserver(folder, is_empty=True))
        loads = Loads(await stack.enter_async_context(aiohttp.ClientSession()))
        url = server.url
        if way not in LEARNED:
            for name in NAMES if way == "all loaded" else NAMES[:PLACES]:
                await loads.by_hand(url, name)
            await asyncio.sleep(1.0)
            begin_in_s = 1.0
        else:
            begin_in_s = READY_S
            url = (await stack.enter_async_context(_with_past(way, server.url, size, scratch))).url
        answers = await drive(url, shots, BODY, begin_in_s=begin_in_s)
    return [answer for answer in answers if answer.shot.at_s >= COUNT_FROM_S]


@asynccontextmanager
async def _with_past(way: str, url: str, size: int, scratch: Path) -> AsyncIterator[Sidecar]:
    """Pillion in mode `way`, knowing the traffic of the two hours before it takes over."""
    history = scratch / f"{way}.json"
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
async def _others(report: Report, folder: Path, options: Options, scratch: Path) -> None:
    """Requests to loaded models, without loads and with one after the other."""
    for title, runtime in (
        ("MLServer", RUNTIME),
        ("MLServer, loading in a thread", THREADED),
        ("a server whose loads cost nothing", ""),
    ):
        found: dict[str, list[Measured]] = defaultdict(list)
        async with AsyncExitStack() as stack:
            if runtime:
                server = await stack.enter_async_context(
                    mlserver(folder, is_empty=True, runtime=runtime, core=options.cores.backend)
                )
                direct, hot, cold = server.url, ROLES.hot, NAMES[-1]
            else:
                running: Running = await stack.enter_async_context(
                    demo(options.cores.backend, "--model", f"cold=sum:{DEMO_LOAD_S}")
                )
                direct, hot, cold = running.url, ("digits",), "cold"
            loads = Loads(await stack.enter_async_context(aiohttp.ClientSession()))
            for name in hot if runtime else ():
                await loads.by_hand(direct, name)
            loading = "mode: demand"
            sidecar = await stack.enter_async_context(
                _sidecar(direct, "open-inference", loading, options.cores.proxy)
            )
            await loads.until_listed(sidecar.admin, cold)
            for name in interleaved(
                ["direct", "direct, loads by hand", "Pillion", "Pillion, its loads"], options.rounds
            ):
                is_pillion = name.startswith("Pillion")
                url = sidecar.url if is_pillion else direct
                requests = [post(url, f"/v2/models/{model}/infer", BODY) for model in hot]
                async with AsyncExitStack() as during:
                    if "loads" in name:
                        cycle = loads.by_admin if is_pillion else loads.by_hand
                        await during.enter_async_context(
                            loads.again_and_again(cycle, sidecar.admin if is_pillion else direct, cold)
                        )
                    found[name].append(
                        await open_loop(
                            url, requests, rate=OTHERS_RATE, options=options, core=options.cores.proxy
                        )
                    )
        _report_others(report, title, found, is_free=not runtime)


def _report_others(report: Report, title: str, found: dict[str, list[Measured]], *, is_free: bool) -> None:
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
    report.section(
        f"Requests to loaded models: {title}",
        markdown(["", "p50, ms", "p99, ms", "errors", "valid rounds"], rows),
    )

    def grown(one: str, other: str) -> list[float]:
        pairs = valid_pairs(found[one], found[other])
        return [this.quantiles["p99"] / that.quantiles["p99"] for this, that in pairs]

    by_pillion = "p99 of others while Pillion loads over"
    if is_free:
        report.objective(
            f"{title}: {by_pillion} p99 without loads is at most 1.10",
            grown("Pillion, its loads", "Pillion"),
            most=1.10,
        )
    else:
        report.objective(
            f"{title}: {by_pillion} direct with loads by hand is at most 1.10",
            grown("Pillion, its loads", "direct, loads by hand"),
            most=1.10,
        )
        report.objective(
            f"{title}: its own p99 with loads by hand over none is at most 1.10",
            grown("direct, loads by hand", "direct"),
            most=1.10,
        )
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
