"""What coalescing brings, and what it costs those who have nobody to share with.

Three backends: the demo server at 5 ms a batch and 0.15 ms an item, one batch at a time; MLServer with a
random forest of 200 trees (one row about 12 ms, a hundred about 18); and a stub that answers at once, where
only the proxy's own work is left. In front of the first two: nothing, Pillion, Pillion as a plain window of
50 ms or 100 items, and for MLServer its own batching.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Report
from bench.statistics import interleaved, ratio, ratios, spread
from bench.subjects import Running, demo, envoy, pillion
from bench.suites.common import (
    Maximum,
    Measured,
    Options,
    closed_loop,
    demo_stats,
    enter_available,
    maximum,
    open_loop,
    valid_pairs,
)
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
LONG_S = 20.0
"""Span of a comparison at few requests a second: a median of a few dozen says nothing about half a
millisecond."""
ENOUGH = 300
"""Requests from which a median at a share of the load is taken."""
DOORS = ("direct", "Pillion")
WHO = {"direct": "the server", "Pillion": "Pillion"}
BATCHED = "Pillion, batched"
BATCHED_TENSORS = "Pillion, batched, Open Inference"
UNBATCHED = "Envoy, unbatched"

ROW = b'{"instances":[[6.8,2.8,4.8,1.4]]}'
PREDICT = "/v1/models/sum:predict"
TENSORS = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[6.8,2.8,4.8,1.4]}]}'
INFER = "/v2/models/sum/infer"


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


@dataclass(frozen=True, slots=True)
class Load:
    """Requests at a rate, whoever answers them; `meaning` tells the reader why at this one."""

    title: str
    rate: float
    subjects: list[str]
    meaning: str


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
    loads = _shares(contest, measured)
    for load in loads:
        await _carry(contest, measured, load, options)
    if contest.low_rate:
        await _low_rates(contest, measured, options)
    _objectives(report, contest, measured)
    meanings = {load.title: f"{load.meaning}\n\n" for load in loads}
    for title, by_name in measured.items():
        report.section(f"{contest.title}: {title}", meanings.get(title, "") + _table(by_name))
    report.data[contest.key] = {
        load: {name: [found.document() for found in rounds] for name, rounds in by_name.items()}
        for load, by_name in measured.items()
    }


def _shares(contest: Contest, measured: dict[str, dict[str, list[Measured]]]) -> list[Load]:
    """The same share of what the server carries by itself and of what it carries behind Pillion.

    Whoever runs the server alone sees the first; the second is as much work for what gathers requests.
    """
    crowd, lone = measured[_clients(CROWD)], measured[_clients(1)]["direct"]
    lone_ms = spread([found.p50 for found in lone]).median
    loads = []
    for whose, names in (
        ("direct", [*DOORS, "window of 50 ms"]),
        ("Pillion", ["Pillion", "window of 50 ms"]),
    ):
        most = spread(_rates(crowd[whose])).median
        meaning = (
            f"{LOW_LOAD * most:,.0f} requests/s, {LOW_LOAD:.0%} of the {most:,.0f} that {WHO[whose]} answers "
            f"{CROWD} clients. With the server to itself, a client waits {lone_ms:.1f} ms (p50): nothing "
            "in front of it can be faster."
        )
        loads.append(Load(_low_load(whose), LOW_LOAD * most, names, meaning))
    return loads


async def _carry(
    contest: Contest, measured: dict[str, dict[str, list[Measured]]], load: Load, options: Options
) -> None:
    patient = replace(options, seconds=max(options.seconds, ENOUGH / load.rate))
    for name in interleaved(load.subjects, options.rounds):
        url = contest.subjects[name].url
        requests = contest.requests(url)
        found = await open_loop(url, requests, rate=load.rate, options=patient, core=contest.load_core)
        measured[load.title][name].append(found)


async def _low_rates(
    contest: Contest, measured: dict[str, dict[str, list[Measured]]], options: Options
) -> None:
    for name in interleaved(list(contest.subjects), options.rounds):
        url = contest.subjects[name].url
        requests = contest.requests(url)
        rate, core = contest.low_rate, contest.load_core
        found = await open_loop(url, requests, rate=rate, options=options, core=core)
        measured[_low_rate(contest)][name].append(found)
    for _ in range(options.rounds):
        for name, found in zip(DOORS, await _through_both_doors(contest, options), strict=True):
            measured[_both_doors(contest)][name].append(found)


async def _through_both_doors(contest: Contest, options: Options) -> list[Measured]:
    """Half of the low rate through each of the `DOORS` at the same time.

    The backend's pace drifts by more than the proxy adds; both halves meet the same pace.
    """
    patient = replace(options, seconds=max(options.seconds, LONG_S))
    loads = []
    for seed, name in enumerate(DOORS, start=1):
        url, rate = contest.subjects[name].url, contest.low_rate / len(DOORS)
        requests = contest.requests(url)
        loads.append(open_loop(url, requests, rate=rate, options=patient, core=contest.load_core, seed=seed))
    return await asyncio.gather(*loads)


def _objectives(report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]]) -> None:
    for whose in DOORS:
        low = measured[_low_load(whose)]
        pairs = valid_pairs(low["window of 50 ms"], low["Pillion"])
        claim = f"{contest.title}: a window's p50 is 3 times as long at {_low_load(whose)}"
        report.objective(claim, [window.p50 / mine.p50 for window, mine in pairs], least=3)
    claim = f"{contest.title}: at most 1 ms added for a lone client"
    report.objective(claim, _added(measured[_clients(1)]), most=1, unit="ms")
    if contest.low_rate:
        _forest_objectives(report, contest, measured)


def _forest_objectives(
    report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]]
) -> None:
    for clients, aim in ((CROWD, 15), (2 * CROWD, 25)):
        crowd = measured[_clients(clients)]
        claim = f"{contest.title}: {aim} times the direct throughput with {clients} clients"
        report.objective(claim, ratios(_rates(crowd["Pillion"]), _rates(crowd["direct"])), least=aim)
    crowd = measured[_clients(2 * CROWD)]
    claim = f"{contest.title}: p99 of at most 60 ms with {2 * CROWD} clients"
    report.objective(claim, [found.quantiles["p99"] for found in crowd["Pillion"]], most=60, unit="ms")
    claim = f"{contest.title}: twice the throughput of its own batching"
    own = _rates(crowd["MLServer's own batching"])
    report.objective(claim, ratios(_rates(crowd["Pillion"]), own), least=2)
    claim = f"{contest.title}: at most 0.5 ms added at {contest.low_rate:g} requests/s"
    report.objective(claim, _added(measured[_both_doors(contest)]), most=0.5, unit="ms")


def _rates(rounds: list[Measured]) -> list[float]:
    return [found.rate for found in rounds]


def _added(by_name: dict[str, list[Measured]]) -> list[float]:
    """What Pillion adds to the p50, round by round."""
    return [mine.p50 - direct.p50 for mine, direct in valid_pairs(by_name["Pillion"], by_name["direct"])]


def _low_load(whose: str) -> str:
    return f"{LOW_LOAD:.0%} of what {WHO[whose]} carries"


def _low_rate(contest: Contest) -> str:
    return f"{contest.low_rate:g} requests/s"


def _both_doors(contest: Contest) -> str:
    return f"{contest.low_rate:g} requests/s, half of them directly and half through Pillion"


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
    found: dict[str, list[Maximum]] = defaultdict(list)
    batches: list[float] = []
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(demo(where.backend))
        asked = {BATCHED: (PREDICT, ROW), BATCHED_TENSORS: (INFER, TENSORS), UNBATCHED: (PREDICT, ROW)}
        subjects = {}
        for name, protocol in ((BATCHED, "kserve-v1"), (BATCHED_TENSORS, "open-inference")):
            started = pillion(backend.url, where.proxy, protocol=protocol)
            subjects[name] = await stack.enter_async_context(started)
        other = await enter_available(stack, report, envoy(backend.url, where.proxy))
        if other is not None:
            subjects[UNBATCHED] = other
        for name in interleaved(list(subjects), options.rounds):
            await demo_stats(backend.url)
            path, body = asked[name]
            most = await maximum(subjects[name], path, body, connections=STUB_CONNECTIONS, options=options)
            stats = await demo_stats(backend.url)
            found[name].append(most)
            if name == BATCHED:
                batches.append(stats["items"] / max(stats["calls"], 1))
    rates = {name: [most.rate for most in rounds] for name, rounds in found.items()}
    thrift = {name: [most.per_cpu_s for most in rounds] for name, rounds in found.items()}
    rows = [
        [
            name,
            count(spread(rates[name])),
            count(spread(thrift[name])),
            str(sum(most.errors for most in rounds)),
        ]
        for name, rounds in found.items()
    ]
    text = markdown(["one core", "requests/s", "per CPU second", "errors"], rows)
    report.section("A stub that answers at once", f"{text}\n\nMean batch {spread(batches).median:.1f}.")
    report.objective("stub: at least 25,000 batched requests/s", rates[BATCHED], least=25_000)
    if UNBATCHED in rates:
        gains = ratios(rates[BATCHED], rates[UNBATCHED])
        report.objective("stub: at least what Envoy forwards unbatched", gains, least=1)
    report.data["stub"] = {
        "connections": STUB_CONNECTIONS, "rate": rates, "per_cpu_s": thrift, "mean_batches": batches,
    }  # fmt: skip
