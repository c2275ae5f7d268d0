"""What coalescing brings, and what it costs those who have nobody to share with.

Three backends: the demo server at 5 ms a batch and 0.15 ms an item, one batch at a time; MLServer with a
random forest of 200 trees (one row about 12 ms, a hundred about 18); and a stub that answers at once, where
only the proxy's own work is left. In front of the first two: nothing, Pillion, Pillion as a plain window of
50 ms or 100 items, and for MLServer its own batching; at the lowest rate nginx as well, which only forwards.

At a share of what Pillion carries it is judged by what anybody could reach there (`bench.bounds`).
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

from bench.bounds import Costs, best_p50_ms, fitted
from bench.report import Report
from bench.statistics import interleaved, ratio, ratios, spread
from bench.subjects import Running, demo, nginx, pillion
from bench.suites.batching_stub import batching_stub
from bench.suites.common import (
    Measured,
    Options,
    closed_loop,
    enter_available,
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
CROWD = 64
LOW_LOAD = 0.4
LONG_S = 60.0
"""Span of a comparison at few requests a second: a median of a few dozen says nothing about half a
millisecond."""
BATCHES = (1, 16, 64)
"""Items in the calls by which a server's costs are measured."""
COSTS_IN_ROUND = "costs"
"""Stands among a load's subjects: the pace of a shared machine drifts, and a bound with it."""
NEAR = 1.25
"""Times what a scheduler could reach that knows the server."""
ENOUGH = 300
"""Requests from which a median at a share of the load is taken."""
DOORS = ("direct", "Pillion")
ANY_PROXY = "nginx"
"""It forwards and nothing more: what it adds is what the way through a second process costs."""
WHO = {"direct": "the server", "Pillion": "Pillion"}
PREDICT = "/v1/models/sum:predict"


@dataclass(frozen=True, slots=True)
class Contest:
    """One backend with its subjects, the first of which is the backend itself."""

    key: str
    title: str
    subjects: dict[str, Running]
    requests: Callable[[str], list[bytes]]
    batch: Callable[[str, int], bytes]
    """One call with so many items."""
    clients: tuple[int, ...]
    crowd_core: int
    """Where many clients are played."""
    lone_core: int
    """Where one at a time is. Not the proxy's core: a client there would be in its way, and never in the
    server's. On the server's, it has nothing to do while the server computes."""
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
    await batching_stub(report, options)
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
            lambda url, items: post(url, PREDICT, json.dumps({"instances": [[1, 1]] * items}).encode()),
            (CROWD, 1),
            options.cores.load,
            options.cores.backend,
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
            lambda url, items: post(
                url, f"/v2/models/{FOREST}/infer", infer_body([image for image, _ in images[:1] * items], "b")
            ),
            (CROWD, 2 * CROWD, 1),
            options.cores.proxy,  # the forest computes all the time: beside it the generator would be late
            options.cores.backend,
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
                url,
                requests,
                connections=clients,
                options=options,
                core=contest.crowd_core if clients > 1 else contest.lone_core,
            )
            measured[_clients(clients)][name].append(found)
    loads = _shares(contest, measured)
    for index, load in enumerate(loads):
        costs = await _carry(contest, measured, load, options)
        if costs:
            loads[index] = _bounded(report, contest, measured, load, costs)
    if contest.low_rate:
        await _low_rates(report, contest, measured, options)
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
        ("Pillion", ["Pillion", COSTS_IN_ROUND, "window of 50 ms"]),
    ):
        most = spread(_rates(crowd[whose])).median
        meaning = (
            f"{LOW_LOAD * most:,.0f} requests/s, {LOW_LOAD:.0%} of the {most:,.0f} that {WHO[whose]} answers "
            f"{CROWD} clients. With the server to itself, a client waits {lone_ms:.1f} ms (p50): nothing "
            "in front of it can be faster."
        )
        loads.append(Load(_low_load(whose), LOW_LOAD * most, names, meaning))
    return loads


def _bounded(
    report: Report,
    contest: Contest,
    measured: dict[str, dict[str, list[Measured]]],
    load: Load,
    costs: list[Costs],
) -> Load:
    """Judge Pillion by what a scheduler could reach that knows the server; `load`, with that said of it."""
    by_name = measured[load.title]
    mine, windows = by_name["Pillion"], by_name["window of 50 ms"]
    best_ms = [best_p50_ms(cost, load.rate) for cost in costs]
    report.objective(
        f"{contest.title}: at most {NEAR} times the best possible p50 at {load.title}",
        [found.p50 / best for found, best in zip(mine, best_ms, strict=True) if found.invalid is None],
        most=NEAR,
    )
    times = ratio([found.p50 for found in windows], [found.p50 for found in mine]).median
    most = ratio([found.p50 for found in windows], best_ms).median
    call_ms = spread([cost.call_ms for cost in costs]).median
    item_ms = spread([cost.item_ms for cost in costs]).median
    meaning = (
        f"{load.meaning} The server does one call after the other and needs {call_ms:.1f} ms for each, and "
        f"{item_ms:.2f} ms for an item (from calls of {', '.join(map(str, BATCHES))} items in each round). "
        "Whoever comes waits for the batch in hand and then for their own: with a scheduler that knows all "
        f"that, {spread(best_ms).median:.1f} ms (p50, simulated). The window's p50 is {times:.2f} times "
        f"Pillion's, and {most:.2f} times that bound, which is the most that anybody could reach here."
    )
    return replace(load, meaning=meaning)


async def _costs(contest: Contest, options: Options) -> Costs:
    """What the server needs for batches, asked directly and one at a time."""
    url = contest.subjects["direct"].url
    took_ms = {}
    for items in BATCHES:
        asked = [contest.batch(url, items)]
        found = await closed_loop(url, asked, connections=1, options=options, core=contest.crowd_core)
        took_ms[items] = found.p50
    return fitted(took_ms)


async def _carry(
    contest: Contest, measured: dict[str, dict[str, list[Measured]]], load: Load, options: Options
) -> list[Costs]:
    """Play `load`; the server's costs in each round, if that is among its subjects."""
    patient = replace(options, seconds=max(options.seconds, ENOUGH / load.rate))
    costs = []
    for name in interleaved(load.subjects, options.rounds):
        if name == COSTS_IN_ROUND:
            costs.append(await _costs(contest, options))
            continue
        url = contest.subjects[name].url
        requests = contest.requests(url)
        found = await open_loop(url, requests, rate=load.rate, options=patient, core=contest.crowd_core)
        measured[load.title][name].append(found)
    return costs


async def _low_rates(
    report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]], options: Options
) -> None:
    for name in interleaved(list(contest.subjects), options.rounds):
        url = contest.subjects[name].url
        requests = contest.requests(url)
        rate, core = contest.low_rate, contest.lone_core
        found = await open_loop(url, requests, rate=rate, options=options, core=core)
        measured[_low_rate(contest)][name].append(found)
    async with AsyncExitStack() as stack:
        doors = {name: contest.subjects[name] for name in DOORS}
        starting = nginx(contest.subjects["direct"].url, options.cores.proxy)
        other = await enter_available(stack, report, starting)
        if other is not None:
            doors[ANY_PROXY] = other
        for _ in range(options.rounds):
            for name, found in zip(doors, await _through_all(contest, doors, options), strict=True):
                measured[_all_doors(contest)][name].append(found)


async def _through_all(contest: Contest, doors: dict[str, Running], options: Options) -> list[Measured]:
    """An equal share of the low rate through each of the `doors` at the same time.

    The backend's pace drifts by more than the proxy adds; all shares meet the same pace.
    """
    patient = replace(options, seconds=max(options.seconds, LONG_S))
    loads = []
    for seed, door in enumerate(doors.values(), start=1):
        rate, requests = contest.low_rate / len(doors), contest.requests(door.url)
        loads.append(
            open_loop(door.url, requests, rate=rate, options=patient, core=contest.lone_core, seed=seed)
        )
    return await asyncio.gather(*loads)


def _objectives(report: Report, contest: Contest, measured: dict[str, dict[str, list[Measured]]]) -> None:
    low = measured[_low_load("direct")]
    pairs = valid_pairs(low["window of 50 ms"], low["Pillion"])
    claim = f"{contest.title}: a window's p50 is 3 times as long at {_low_load('direct')}"
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
    report.objective(claim, _added(measured[_all_doors(contest)]), most=0.5, unit="ms")


def _rates(rounds: list[Measured]) -> list[float]:
    return [found.rate for found in rounds]


def _added(by_name: dict[str, list[Measured]]) -> list[float]:
    """What Pillion adds to the p50, round by round."""
    return [mine.p50 - direct.p50 for mine, direct in valid_pairs(by_name["Pillion"], by_name["direct"])]


def _low_load(whose: str) -> str:
    return f"{LOW_LOAD:.0%} of what {WHO[whose]} carries"


def _low_rate(contest: Contest) -> str:
    return f"{contest.low_rate:g} requests/s"


def _all_doors(contest: Contest) -> str:
    return f"{contest.low_rate:g} requests/s, shared by all of these"


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
