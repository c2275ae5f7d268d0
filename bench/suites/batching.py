"""What coalescing brings, and what it costs those who have nobody to share with.

Three backends: the demo server at 5 ms a batch and 0.15 ms an item, one batch at a time; MLServer with a
random forest of 200 trees (one row about 12 ms, a hundred about 18); and a stub that answers at once, where
only the proxy's own work is left. In front of the first two: nothing, Pillion, Pillion as a plain window of
50 ms or 100 items, and for MLServer its own batching.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.load import wrk
from bench.report import Report
from bench.statistics import Spread, interleaved, ratio, spread
from bench.subjects import Running, demo, envoy, pillion
from bench.suites.common import Measured, Options, closed_loop, demo_stats, enter_available, open_loop
from bench.tables import count, factor, markdown, milliseconds
from proxy.demo.client import post
from proxy.demo.models import sample_images
from tests.support.mlserver import FOREST, infer_body, mlserver, train

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ("batching",)

COSTS = ("--fixed-s", "0.005", "--item-s", "0.00015", "--parallelism", "1")
WINDOW = "mode: window, max_wait: 50ms, items: {start: 100}"
OWN_BATCHING = {"max_batch_size": 100, "max_batch_time": 0.01}
STUB_CONNECTIONS = 256
CROWD = 64
LOW_LOAD = 0.4
BATCHED = "Pillion, batched"
UNBATCHED = "Envoy, unbatched"

ROW = b'{"instances":[[6.8,2.8,4.8,1.4]]}'
PREDICT = "/v1/models/sum:predict"


@dataclass(frozen=True, slots=True)
class Contest:
    """One backend with its subjects, the first of which is the backend itself."""

    key: str
    title: str
    subjects: dict[str, Running]
    requests: Callable[[str], list[bytes]]
    clients: tuple[int, ...]
    load_core: int
    low_rate: float = 0.0
    """Requests per second at which waiting is pure loss; 0: none is measured."""


async def batching(options: Options, *, with_mlserver: bool = True) -> Report:
    """Run the suite; MLServer needs the extra ``real``."""
    report = Report("batching", "What does coalesced inference bring, and what does it cost a lone client?")
    async with _cost_model(options) as contest:
        await _play(report, contest, options)
    if with_mlserver:
        async with _forest(options) as contest:
            await _play(report, contest, options)
    await _stub(report, options)
    return report


# ----------------------------------------------------------------- backends
@asynccontextmanager
async def _cost_model(options: Options) -> AsyncIterator[Contest]:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(demo(options.cores.backend, *COSTS))
        subjects = {"direct": backend, **await _proxies(stack, backend.url, "kserve-v1", options)}
        yield Contest(
            "cost_model",
            "5 ms a batch, 0.15 ms an item",
            subjects,
            lambda url: [post(url, PREDICT, json.dumps({"instances": [[i, 1]]}).encode()) for i in range(64)],
            (CROWD, 1),
            options.cores.load,
        )


@asynccontextmanager
async def _forest(options: Options) -> AsyncIterator[Contest]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pillion-bench-")))
        core = options.cores.backend
        plain = await stack.enter_async_context(mlserver(train(folder / "plain"), core=core))
        own = await stack.enter_async_context(mlserver(train(folder / "own"), batch=OWN_BATCHING, core=core))
        subjects = {
            "direct": Running("direct", plain.url, plain.pid),
            **await _proxies(stack, plain.url, "open-inference", options),
            "MLServer's own batching": Running("own", own.url, own.pid),
        }
        images = sample_images()
        yield Contest(
            "mlserver_forest",
            "MLServer, random forest",
            subjects,
            lambda url: [
                post(url, f"/v2/models/{FOREST}/infer", infer_body([image], str(i)))
                for i, (image, _) in enumerate(images)
            ],
            (CROWD, 2 * CROWD, 1),
            options.cores.proxy,  # the forest computes all the time: beside it the generator would be late
            low_rate=20.0,
        )


async def _proxies(
    stack: AsyncExitStack, upstream: str, protocol: str, options: Options
) -> dict[str, Running]:
    core = options.cores.proxy
    adaptive = pillion(upstream, core, protocol=protocol)
    window = pillion(upstream, core, name="window", protocol=protocol, batch=WINDOW)
    return {
        "Pillion": await stack.enter_async_context(adaptive),
        "window of 50 ms": await stack.enter_async_context(window),
    }


# ----------------------------------------------------------------- measurements
async def _play(report: Report, contest: Contest, options: Options) -> None:
    measured: dict[str, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for name in interleaved(list(contest.subjects), options.rounds):
        url = contest.subjects[name].url
        requests = contest.requests(url)
        for clients in contest.clients:
            found = await closed_loop(
                url, requests, connections=clients, options=options, core=contest.load_core
            )
            measured[_clients(clients)][name].append(found)
    await _low_loads(contest, measured, options)
    _objectives(report, contest, measured)
    for load, by_name in measured.items():
        report.section(f"{contest.title}: {load}", _table(by_name))
    report.data[contest.key] = {
        load: {name: [found.document() for found in rounds] for name, rounds in by_name.items()}
        for load, by_name in measured.items()
    }


async def _low_loads(
    contest: Contest, measured: dict[str, dict[str, list[Measured]]], options: Options
) -> None:
    most = spread([found.rate for found in measured[_clients(CROWD)]["Pillion"]]).median
    loads = {f"{LOW_LOAD:.0%} load": (LOW_LOAD * most, ["Pillion", "window of 50 ms"])}
    if contest.low_rate:
        loads[_low_rate(contest)] = (contest.low_rate, list(contest.subjects))
    for load, (rate, names) in loads.items():
        for name in interleaved(names, options.rounds):
            url = contest.subjects[name].url
            requests = contest.requests(url)
            found = await open_loop(url, requests, rate=rate, options=options, core=contest.load_core)
            measured[load][name].append(found)


def _objectives(report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]]) -> None:
    crowd = measured[_clients(CROWD)]
    gain = ratio(_rates(crowd["Pillion"]), _rates(crowd["direct"]))
    claim = f"{contest.title}: at least 15 times the direct throughput with {CROWD} clients"
    report.objective(claim, factor(gain), is_met=gain.median >= 15)
    low = measured[f"{LOW_LOAD:.0%} load"]
    shorter = ratio([found.p50 for found in low["window of 50 ms"]], [found.p50 for found in low["Pillion"]])
    claim = f"{contest.title}: a third of the window's p50 at {LOW_LOAD:.0%} load"
    report.objective(claim, f"1/{factor(shorter)}", is_met=shorter.median >= 3)
    lone = _added(measured[_clients(1)])
    claim = f"{contest.title}: less than 1 ms added for a lone client"
    report.objective(claim, milliseconds(lone), is_met=lone.median < 1)
    if contest.low_rate:
        _forest_objectives(report, contest, measured)


def _forest_objectives(
    report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]]
) -> None:
    crowd = measured[_clients(2 * CROWD)]
    mine = _rates(crowd["Pillion"])
    gain, p99 = (
        ratio(mine, _rates(crowd["direct"])),
        spread([found.quantiles["p99"] for found in crowd["Pillion"]]),
    )
    claim = f"{contest.title}: 25 times the direct throughput with {2 * CROWD} clients, p99 below 60 ms"
    found = f"{factor(gain)}, {milliseconds(p99)} ms"
    report.objective(claim, found, is_met=gain.median >= 25 and p99.median < 60)
    own = ratio(mine, _rates(crowd["MLServer's own batching"]))
    claim = f"{contest.title}: twice the throughput of its own batching"
    report.objective(claim, factor(own), is_met=own.median >= 2)
    added = _added(measured[_low_rate(contest)])
    claim = f"{contest.title}: at most 0.5 ms added at {contest.low_rate:g} requests/s"
    report.objective(claim, milliseconds(added), is_met=added.median <= 0.5)


def _rates(rounds: list[Measured]) -> list[float]:
    return [found.rate for found in rounds]


def _added(by_name: dict[str, list[Measured]]) -> Spread:
    pairs = zip(by_name["Pillion"], by_name["direct"], strict=True)
    return spread([mine.p50 - direct.p50 for mine, direct in pairs])


def _low_rate(contest: Contest) -> str:
    return f"{contest.low_rate:g} requests/s"


def _clients(number: int) -> str:
    return f"{number} clients" if number > 1 else "one client"


def _table(by_name: dict[str, list[Measured]]) -> str:
    base = next(iter(by_name))
    rows = []
    for name, rounds in by_name.items():
        rows.append(
            [
                name,
                count(spread(_rates(rounds))),
                factor(ratio(_rates(rounds), _rates(by_name[base]))),
                milliseconds(spread([found.p50 for found in rounds])),
                milliseconds(spread([found.quantiles["p99"] for found in rounds])),
                str(sum(sum(found.result.errors.values()) for found in rounds)),
                f"{sum(found.invalid is None for found in rounds)}/{len(rounds)}",
            ]
        )
    return markdown(["", "requests/s", f"times {base}", "p50, ms", "p99, ms", "errors", "valid rounds"], rows)


async def _stub(report: Report, options: Options) -> None:
    """A backend without costs: what is left is what the proxy does for each request."""
    where = options.cores
    rates: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, int] = defaultdict(int)
    batches: list[float] = []
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(demo(where.backend))
        batched = pillion(backend.url, where.proxy, protocol="kserve-v1")
        subjects = {BATCHED: await stack.enter_async_context(batched)}
        other = await enter_available(stack, report, envoy(backend.url, where.proxy))
        if other is not None:
            subjects[UNBATCHED] = other
        for name in interleaved(list(subjects), options.rounds):
            await demo_stats(backend.url)
            found = await wrk(
                subjects[name].url,
                PREDICT,
                ROW,
                connections=STUB_CONNECTIONS,
                seconds=options.seconds,
                core=where.load,
            )
            stats = await demo_stats(backend.url)
            rates[name].append(found.rate)
            errors[name] += found.errors
            if name == BATCHED:
                batches.append(stats["items"] / max(stats["calls"], 1))
    rows = [[name, count(spread(rate)), str(errors[name])] for name, rate in rates.items()]
    text = (
        markdown(["one core", "requests/s", "errors"], rows) + f"\n\nMean batch {spread(batches).median:.1f}."
    )
    report.section("A stub that answers at once", text)
    most = spread(rates[BATCHED])
    report.objective("stub: at least 25,000 batched requests/s", count(most), is_met=most.median >= 25_000)
    if UNBATCHED in rates:
        gain = ratio(rates[BATCHED], rates[UNBATCHED])
        report.objective("stub: more than Envoy forwards unbatched", factor(gain), is_met=gain.median > 1)
    report.data["stub"] = {"connections": STUB_CONNECTIONS, "rates": rates, "mean_batches": batches}
