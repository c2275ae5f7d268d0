"""What a request that is only forwarded costs: requests per second on one core, latency, memory, reuse.

Measurements of each subject, interleaved over the rounds where they are compared:

* the most GETs and small POSTs that one core forwards, 64 connections, driven by wrk;
* the same for Pillion with heads that differ from request to request (`bench.suites.heads`);
* the latency added at half of that load: Poisson arrivals, beside the same load straight at the backend;
* memory for each of many idle client connections that have asked once;
* how many requests an upstream connection carried (Pillion, counted by the demo server).

The backend answers 19 bytes at once: nginx where it is installed, the demo server otherwise. With two cores
it shares one with the load, which bounds what can be seen of the fastest subjects.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from bench.machine import rss_bytes
from bench.report import Report
from bench.statistics import interleaved, ratio, ratios, spread
from bench.subjects import Running, demo, envoy, naive, nginx, nginx_backend, pillion
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
from bench.suites.heads import differing_heads
from bench.tables import count, factor, markdown, milliseconds
from proxy.demo.client import get, post
from proxy.demo.processes import child

__all__ = ("passthrough",)

CONNECTIONS = 64
PATH = "/v1/models/sum"
BODY = b'{"instances":[[6.8,2.8,4.8,1.4]]}'
BASES = {"envoy": 1.0, "naive aiohttp": 4.0}
"""Who Pillion is compared with, and how many times their requests per second it aims at."""
MAX_OPEN_RATE = 15_000
"""Above this the generator needs more than its share of a core that the backend is on too."""
REUSE_LEAST_S = 10.0
"""A pool dials its most connections before it has learned to trust a backend, once, within a second."""

Starter = Callable[[str, int], AbstractAsyncContextManager[Running]]
PROXIES: dict[str, Starter] = {"pillion": pillion, "envoy": envoy, "nginx": nginx, "naive aiohttp": naive}


async def passthrough(options: Options, *, idle: int = 10_000) -> Report:
    """Run the suite; `idle` is the number of idle connections."""
    report = Report("passthrough", "What does one core forward, and what does it add?")
    async with AsyncExitStack() as stack:
        backend = await _backend(stack, report, options.cores.backend)
        running = {"direct": await _backend(stack, report, options.cores.proxy)}
        for name, starter in PROXIES.items():
            subject = await enter_available(stack, report, starter(backend.url, options.cores.proxy))
            if subject is not None:
                running[name] = subject
        await _maxima(report, running, options)
        await differing_heads(
            report, running["pillion"], f"{PATH}:predict", BODY, options, connections=CONNECTIONS
        )
        await _half_load(report, running, backend, options)
        await _idle_memory(report, [name for name in running if name != "direct"], backend, options, idle)
    await _reuse(report, options)
    return report


async def _backend(stack: AsyncExitStack, report: Report, core: int) -> Running:
    fast = await enter_available(stack, report, nginx_backend(core))
    return await stack.enter_async_context(demo(core)) if fast is None else fast


async def _maxima(report: Report, running: dict[str, Running], options: Options) -> None:
    found: dict[str, dict[str, list[Maximum]]] = {"GET": defaultdict(list), "POST": defaultdict(list)}
    for name in interleaved(list(running), options.rounds):
        for method, body in (("GET", None), ("POST", BODY)):
            path = PATH if body is None else f"{PATH}:predict"
            most = await maximum(running[name], path, body, connections=CONNECTIONS, options=options)
            found[method][name].append(most)
    report.data["maxima"] = {"connections": CONNECTIONS}
    for title, field in (("Requests per second", "rate"), ("Requests per CPU second", "per_cpu_s")):
        values = {
            method: {name: [getattr(most, field) for most in rounds] for name, rounds in by_name.items()}
            for method, by_name in found.items()
        }
        report.data["maxima"][field] = values
        report.section(title, _rates_table(values))
    report.data["maxima"]["errors"] = {
        name: sum(most.errors for by_name in found.values() for most in by_name[name]) for name in running
    }
    _rate_objectives(report, report.data["maxima"]["rate"]["GET"])


def _rates_table(values: dict[str, dict[str, list[float]]]) -> str:
    gets = values["GET"]
    bases = [base for base in BASES if base in gets]
    rows = []
    for name in gets:
        cells = [count(spread(by_name[name])) for by_name in values.values()]
        rows.append([name, *cells, *(factor(ratio(gets[name], gets[base])) for base in bases)])
    return markdown(["one core", *values, *(f"GET, times {base}" for base in bases)], rows)


def _rate_objectives(report: Report, gets: dict[str, list[float]]) -> None:
    for base, aim in BASES.items():
        if base in gets:
            claim = f"at least {aim:g} times the requests per second of {base}"
            report.objective(claim, ratios(gets["pillion"], gets[base]), least=aim)


async def _half_load(report: Report, running: dict[str, Running], backend: Running, options: Options) -> None:
    gets = report.data["maxima"]["rate"]["GET"]
    measured: dict[str, list[tuple[Measured, Measured]]] = defaultdict(list)
    proxies = [name for name in running if name != "direct"]
    for name in interleaved(proxies, options.rounds):
        rate = min(spread(gets[name]).median / 2, MAX_OPEN_RATE)
        direct = await open_loop(backend.url, [get(backend.url, PATH)], rate=rate, options=options)
        url = running[name].url
        measured[name].append((direct, await open_loop(url, [get(url, PATH)], rate=rate, options=options)))
    rows = []
    for name in proxies:
        pairs = measured[name]
        added = {q: [b.quantiles[q] - a.quantiles[q] for a, b in pairs] for q in ("p50", "p99")}
        valid = sum(a.invalid is None and b.invalid is None for a, b in pairs)
        rate_text = f"{spread([proxied.rate for _, proxied in pairs]).median:,.0f}"
        cells = [milliseconds(spread(values)) for values in added.values()]
        rows.append([name, rate_text, *cells, f"{valid}/{len(pairs)}"])
    head = ["half load", "requests/s", "p50 added, ms", "p99 added, ms", "valid rounds"]
    report.section("Latency added at half load", markdown(head, rows))
    pairs = valid_pairs(
        [direct for direct, _ in measured["pillion"]], [via for _, via in measured["pillion"]]
    )
    p50_added = [via.p50 - direct.p50 for direct, via in pairs]
    report.objective("at most 0.2 ms added to the p50 at half load", p50_added, most=0.2, unit="ms")
    report.data["half_load"] = {
        name: [{"direct": a.document(), "proxied": b.document()} for a, b in pairs]
        for name, pairs in measured.items()
    }


async def _idle_memory(
    report: Report, names: list[str], backend: Running, options: Options, idle: int
) -> None:
    found = {}
    for name in names:
        async with PROXIES[name](backend.url, options.cores.proxy) as fresh:
            await closed_loop(fresh.url, [get(fresh.url, PATH)], connections=32, options=Options(1.0, 1))
            found[name] = await _bytes_each(fresh, idle)
    rows = [[name, f"{each / 1024:.1f}"] for name, each in found.items()]
    report.section(
        f"Memory of an idle client connection ({idle:,} of them)", markdown(["", "KiB RSS each"], rows)
    )
    report.data["idle_bytes_each"] = found
    claim = "at most 10 KiB for an idle client connection"
    report.objective(claim, [found["pillion"] / 1024], most=10, unit="KiB")


async def _bytes_each(subject: Running, idle: int) -> float:
    before = rss_bytes(subject.pid)
    command = (sys.executable, "-m", "bench.generator.hold", subject.url, PATH, str(idle))
    async with child(command, lambda line: line if line.startswith("holding") else None, start_s=120.0):
        return (rss_bytes(subject.pid) - before) / idle


async def _reuse(report: Report, options: Options) -> None:
    async with demo(options.cores.backend) as backend, pillion(backend.url, options.cores.proxy) as subject:
        request = post(subject.url, f"{PATH}:predict", BODY)
        long = Options(max(options.seconds, REUSE_LEAST_S), options.rounds)
        load = await closed_loop(subject.url, [request], connections=CONNECTIONS, options=long)
        stats = await demo_stats(backend.url)
    reuse = 1 - stats["connections"] / max(stats["requests"], 1)
    text = f"{stats['requests']:,} requests over {stats['connections']} connections: {reuse:.3%} reused."
    report.section("Upstream reuse", text)
    report.objective("at least 99.9 % of requests on a used connection", [100 * reuse], least=99.9, unit="%")
    report.data["reuse"] = {"ratio": reuse, "stats": stats, "load": load.document()}
