"""What batching costs the proxy: a backend that answers at once, so that nothing else is left."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bench.statistics import interleaved, ratios, spread
from bench.subjects import demo, envoy, pillion
from bench.suites.common import Maximum, Options, demo_stats, enter_available, maximum
from bench.tables import count, markdown

if TYPE_CHECKING:
    from bench.report import Report

__all__ = ("batching_stub",)

STUB_CONNECTIONS = 256
BATCHED = "Pillion, batched"
BATCHED_TENSORS = "Pillion, batched, Open Inference"
UNBATCHED = "Envoy, unbatched"

ROW = b'{"instances":[[6.8,2.8,4.8,1.4]]}'
PREDICT = "/v1/models/sum:predict"
TENSORS = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[6.8,2.8,4.8,1.4]}]}'
INFER = "/v2/models/sum/infer"


async def batching_stub(report: Report, options: Options) -> None:
    """Batched requests on one core, beside what Envoy forwards unbatched."""
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
