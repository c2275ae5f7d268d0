"""What a kept answer costs, and how many upstream calls a crowd of equal questions makes.

The demo server answers at once where hits are measured, so that what is compared is Pillion with a cache,
Pillion without, and the server itself; it takes 50 ms where a crowd asks the same thing at the same time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from bench.load import wrk
from bench.machine import cpu_s
from bench.report import Report
from bench.statistics import interleaved, ratio, spread
from bench.subjects import demo, pillion
from bench.suites.common import demo_stats
from bench.tables import count, factor, markdown
from proxy.demo.client import post
from proxy.demo.models import sample_images
from proxy.demo.run import drive

if TYPE_CHECKING:
    from bench.subjects import Running
    from bench.suites.common import Options

__all__ = ("caching",)

CONNECTIONS = 64
CROWD = 1000
SLOW = ("--fixed-s", "0.05")
DETERMINISTIC = "mode: deterministic"
KEPT = "Pillion, kept answers"
PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"
_IMAGE = list(sample_images()[0][0])
V1 = json.dumps({"instances": [_IMAGE]}).encode()
V2 = json.dumps(
    {"id": "a", "inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": _IMAGE}]}
).encode()
FORMS = {"kserve-v1": (PREDICT, V1), "open-inference": (INFER, V2)}


async def caching(options: Options) -> Report:
    """Run the suite."""
    report = Report("caching", "What does a kept answer cost, and what reaches the backend?")
    for protocol, (path, body) in FORMS.items():
        await _hits(report, options, protocol, path, body)
    await _crowd(report, options)
    return report


async def _hits(report: Report, options: Options, protocol: str, path: str, body: bytes) -> None:
    """The same question again and again."""
    where = options.cores
    rates: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, int] = defaultdict(int)
    async with (
        demo(where.backend) as backend,
        pillion(backend.url, where.proxy, protocol=protocol, cache=DETERMINISTIC) as kept,
        pillion(backend.url, where.proxy, protocol=protocol, batch="mode: off") as plain,
    ):
        subjects: dict[str, Running] = {KEPT: kept, "Pillion, forwarding": plain, "direct": backend}
        for name in interleaved(list(subjects), options.rounds):
            subject = subjects[name]
            before = cpu_s(subject.pid)
            found = await wrk(
                subject.url,
                path,
                body,
                connections=CONNECTIONS,
                seconds=options.seconds,
                core=where.load,
            )
            rates[name].append(found.rate)
            costs[name].append((cpu_s(subject.pid) - before) / (found.rate * options.seconds) * 1e6)
            errors[name] += found.errors
    rows = [
        [name, count(spread(rates[name])), f"{spread(costs[name]).median:.1f}", str(errors[name])]
        for name in subjects
    ]
    report.section(f"Hits, {protocol}", markdown(["one core", "requests/s", "CPU µs each", "errors"], rows))
    rate, cost = spread(rates[KEPT]), spread(costs[KEPT])
    report.objective(
        f"{protocol}: at least 20,000 hits/s on one core", count(rate), is_met=rate.median >= 20_000
    )
    report.objective(
        f"{protocol}: at most 40 µs of the proxy's CPU for a hit, network included",
        f"{cost.median:.1f} µs",
        is_met=cost.median <= 40,
    )
    gain = ratio(rates[KEPT], rates["Pillion, forwarding"])
    report.objective(f"{protocol}: faster than forwarding", factor(gain), is_met=gain.median > 1)
    report.data[protocol] = {"rates": rates, "cpu_us": costs, "errors": errors}


async def _crowd(report: Report, options: Options) -> None:
    """A thousand clients ask the same thing at the same time, and nobody has asked before."""
    where = options.cores
    calls = []
    async with (
        demo(where.backend, *SLOW) as backend,
        pillion(backend.url, where.proxy, protocol="kserve-v1", cache=DETERMINISTIC) as kept,
    ):
        await demo_stats(backend.url)
        for number in range(options.rounds):
            image = [float(number), *_IMAGE[1:]]
            body = json.dumps({"instances": [image]}).encode()
            driven = await drive(kept.url, [post(kept.url, PREDICT, body)] * CROWD, CROWD)
            assert {status for status, _ in driven.answers} == {200}
            calls.append((await demo_stats(backend.url))["calls"])
    report.section("A crowd", f"{CROWD} equal questions at once: {calls} upstream calls in each round.")
    report.objective(
        f"{CROWD} equal cold requests are 1 upstream call", str(max(calls)), is_met=max(calls) == 1
    )
    report.data["crowd"] = {"clients": CROWD, "upstream_calls": calls}
