"""What a kept answer costs, and how many upstream calls a crowd of equal questions makes.

The demo server answers at once where hits are measured, so that what is compared is Pillion with a cache,
Pillion without, and the server itself; it takes 50 ms where a crowd asks the same thing at the same time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from bench.load import NUMBER
from bench.report import Report
from bench.statistics import interleaved, ratios, spread
from bench.subjects import demo, pillion
from bench.suites.common import demo_stats, maximum
from bench.tables import count, markdown
from proxy.demo.client import post
from proxy.demo.models import sample_images
from proxy.demo.run import drive

if TYPE_CHECKING:
    from bench.suites.common import Maximum, Options

__all__ = ("caching",)

CONNECTIONS = 64
CROWD = 1000
SLOW = ("--fixed-s", "0.05")
DETERMINISTIC = "mode: deterministic"
KEPT = "Pillion, kept answers"
FORWARDED = "Pillion, forwarding"
PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"
_IMAGE = list(sample_images()[0][0])
V1 = json.dumps({"instances": [_IMAGE]}).encode()
V2 = json.dumps(
    {"id": "a", "inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": _IMAGE}]}
).encode()
FORMS = {
    "kserve-v1": ("kserve-v1", PREDICT, V1),
    "open-inference": ("open-inference", INFER, V2),
    "open-inference, an id each": ("open-inference", INFER, V2.replace(b'"a"', b'"%b"' % NUMBER)),
}
"""Protocol, path and body of the same question in each form."""


async def caching(options: Options) -> Report:
    """Run the suite."""
    report = Report("caching", "What does a kept answer cost, and what reaches the backend?")
    for form in FORMS:
        await _hits(report, options, form)
    await _crowd(report, options)
    return report


async def _hits(report: Report, options: Options, form: str) -> None:
    """The same question again and again."""
    where = options.cores
    protocol, path, body = FORMS[form]
    found: dict[str, list[Maximum]] = defaultdict(list)
    async with (
        demo(where.backend) as backend,
        pillion(backend.url, where.proxy, protocol=protocol, cache=DETERMINISTIC) as kept,
        pillion(backend.url, where.proxy, protocol=protocol, batch="mode: off") as plain,
    ):
        subjects = {KEPT: kept, FORWARDED: plain, "direct": backend}
        for name in interleaved(list(subjects), options.rounds):
            most = await maximum(subjects[name], path, body, connections=CONNECTIONS, options=options)
            found[name].append(most)
    rates = {name: [most.rate for most in rounds] for name, rounds in found.items()}
    costs = {name: [1e6 / most.per_cpu_s for most in rounds] for name, rounds in found.items()}
    rows = [
        [
            name,
            count(spread(rates[name])),
            f"{spread(costs[name]).median:.1f}",
            str(sum(most.errors for most in rounds)),
        ]
        for name, rounds in found.items()
    ]
    report.section(f"Hits, {form}", markdown(["one core", "requests/s", "CPU µs each", "errors"], rows))
    report.objective(f"{form}: at least 20,000 hits/s on one core", rates[KEPT], least=20_000)
    claim = f"{form}: at most 40 µs of CPU for a hit, parsing and sockets included"
    report.objective(claim, costs[KEPT], most=40, unit="µs")
    report.objective(f"{form}: faster than forwarding", ratios(rates[KEPT], rates[FORWARDED]), least=1)
    report.data[form] = {"connections": CONNECTIONS, "rate": rates, "cpu_us": costs}


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
            body = json.dumps({"instances": [[float(number), *_IMAGE[1:]]]}).encode()
            driven = await drive(kept.url, [post(kept.url, PREDICT, body)] * CROWD, CROWD)
            if {status for status, _ in driven.answers} != {200}:
                report.notes.append(f"crowd {number}: not every answer was good")
            calls.append((await demo_stats(backend.url))["calls"])
    report.section("A crowd", f"{CROWD} equal questions at once: {calls} upstream calls in each round.")
    report.objective(f"{CROWD} equal cold requests are 1 upstream call", calls, most=1)
    report.data["crowd"] = {"clients": CROWD, "upstream_calls": calls}
