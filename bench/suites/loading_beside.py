"""Whether the load of one model holds up requests to others.

A model is loaded and unloaded all the time: by hand at the server's own port, and by Pillion, while others
are asked for directly and through Pillion. MLServer loads on its event loop, and answers nobody meanwhile; so
the same is done with a runtime that loads in a thread, and with the demo server, whose loads cost nothing:
what is left there is Pillion's own. Quantiles are those of all rounds together, since a round sees two or
three loads only. Pillion and the load are on one core, the server has the other."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from bench.forests import NAMES, train_forests
from bench.latency import merged, quantile_ms
from bench.live_load import Loads
from bench.live_sidecar import sidecar
from bench.report import Report
from bench.statistics import interleaved, spread
from bench.subjects import demo
from bench.suites.common import open_loop
from bench.tables import markdown, milliseconds
from proxy.demo.client import post
from proxy.demo.models import sample_images
from tests.support.mlserver import RUNTIME, infer_body, mlserver

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

    from bench.suites.common import Measured, Options

__all__ = ("loading_beside",)

CASES = ("direct", "direct, loads by hand", "Pillion", "Pillion, loads by hand", "Pillion, its loads")
THREADED = "bench.threaded_sklearn.ThreadedSKLearn"
HOT, COLD = NAMES[:2], NAMES[-1]
DEMO_LOAD_S = 1.7
_ROW = [image for image, _ in sample_images()][:1]
BODY = infer_body(_ROW, "1")


@dataclass(frozen=True, slots=True)
class Stage:
    """A server with loaded models (`hot`) and one that is loaded and unloaded (`cold`)."""

    title: str
    url: str
    hot: tuple[str, ...]
    cold: str
    rate: float
    """Requests per second to the loaded ones."""


async def loading_beside(options: Options, *, models: Path | None = None) -> Report:
    """Run the suite, about four minutes; needs the extra ``real``. `models` keeps the forests."""
    report = Report("loading-beside", "Who else waits for the load of a model?")
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as scratch:
        folder = models or Path(scratch) / "forests"
        train_forests(folder)
        await _others(report, folder, options)
    return report


async def _others(report: Report, folder: Path, options: Options) -> None:
    for title, runtime in (("MLServer", RUNTIME), ("MLServer, loading in a thread", THREADED)):
        async with mlserver(folder, is_empty=True, runtime=runtime, core=options.cores.backend) as server:
            found = await _stage(Stage(title, server.url, HOT, COLD, 40.0), options)
        _report_others(report, title, found)
        claim = f"{title}: p99 of others, Pillion's loads over loads by hand, is at most 1.10"
        report.objective(claim, _grown(found, "Pillion, its loads", "Pillion, loads by hand"), most=1.10)
        own = [f"{grown:.1f}" for grown in _grown(found, "direct, loads by hand", "direct")]
        report.notes.append(
            f"{title}: loads by hand make p99 of others {own[0] if own else '?'} times as long"
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
        sidecar(stage.url, "mode: demand", options.cores.proxy) as running,
    ):
        loads = Loads(session)
        for name in stage.hot:
            await loads.by_hand(stage.url, name)
        await loads.until_listed(running.admin, stage.cold)
        for name in interleaved(CASES, options.rounds):
            url = running.url if "Pillion" in name else stage.url
            cycle, control = (
                (loads.by_admin, running.admin) if "its loads" in name else (loads.by_hand, stage.url)
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
    """p99 over p99, of all rounds that count; empty when none does."""
    this, that = (_together(found[name]) for name in (one, other))
    return [quantile_ms(this, 99) / quantile_ms(that, 99)] if this is not None and that is not None else []


def _together(rounds: list[Measured]) -> HdrHistogram | None:
    texts = [each.result.histogram for each in rounds if each.invalid is None]
    return merged(texts) if texts else None


def _report_others(report: Report, title: str, found: dict[str, list[Measured]]) -> None:
    rows = []
    for name, rounds in found.items():
        every = merged(each.result.histogram for each in rounds)
        rows.append(
            [
                name,
                *(f"{quantile_ms(every, share):,.1f}" for share in (50, 99)),
                milliseconds(spread([each.quantiles["p99"] for each in rounds])),
                str(sum(sum(each.result.errors.values()) for each in rounds)),
                f"{sum(each.invalid is None for each in rounds)}/{len(rounds)}",
            ]
        )
    head = ["", "p50, ms", "p99, ms", "p99 of a round, ms", "errors", "valid rounds"]
    report.section(f"Requests to loaded models: {title}", markdown(head, rows))
    report.data[title] = {name: [each.document() for each in rounds] for name, rounds in found.items()}
