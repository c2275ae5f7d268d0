"""What passing a stream on costs: events per second on one core, their delay, bulk, the first byte.

Five measurements of each subject, interleaved over the rounds:

* **events**: 1,000 streams of 50 events per second each: how many arrive, how old they are beside those read
  straight from the source, what one of them costs the proxy, and the memory for each stream;
* **crowd**: 100 streams that offer more than one core can pass on, one event at a time;
* **bulk**: one endless answer of known length, as fast as it goes;
* **first byte**: how long until the first event, one stream after the other on one connection;
* **leaving**: how long the source goes on for a client that has left.

The source and the reader compute nothing. With two cores they share one, which bounds the rates that can be
seen; what an event costs the proxy is therefore given in CPU time, and rates *per CPU second* are the ones
to compare.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench.report import Report
from bench.statistics import interleaved, spread
from bench.streams.leaving import PATIENCE_MS, STAGES, spans_until_left
from bench.streams.measure import in_rounds, keep
from bench.streams.measure import source as source_on
from bench.streams.reader import quantile
from bench.subjects import naive, nginx, pillion
from bench.suites.common import enter_available
from bench.tables import count, factor, markdown, milliseconds
from proxy.demo.client import get

if TYPE_CHECKING:
    from bench.streams.reader import ReadResult
    from bench.subjects import Running
    from bench.suites.common import Options

__all__ = ("streaming",)

STREAMS = 1000
EVENTS = "/events/20000"  # one each 20 ms
CROWD, CROWD_EVENTS = 100, "/events/700"
BULK = f"/bytes/{1 << 50}"
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


async def streaming(options: Options) -> Report:
    """Run the suite."""
    report = Report("streaming", "What does it cost to pass a stream on?")
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(source_on(options.cores.backend))
        running = {"direct": source}
        core = options.cores.proxy
        for starter in (
            pillion(source.url, core, protocol="openai", pool="{http: {max: 2000, connect: 5s}}"),
            nginx(source.url, core, more="proxy_buffering off;"),
            naive(source.url, core),
        ):
            subject = await enter_available(stack, report, starter)
            if subject is not None:
                running[subject.name] = subject
        await _events(report, running, options)
        await _crowd(report, running, options)
        await _bulk(report, running, options)
        await _first_byte(report, running, options)
        await _leaving(report, running, source.url)
    return report


async def _events(report: Report, running: dict[str, Running], options: Options) -> None:
    found = await in_rounds(running, EVENTS, options, streams=STREAMS)
    keep(report, "events", found)
    rows = []
    for name, results in found.items():
        rates = [result.events / result.seconds for result in results]
        cells = [count(spread(rates)), *_costs(name, results)]
        cells.extend(
            milliseconds(spread(ages))
            for ages in ([result.age_p50 for result in results], [result.age_p99 for result in results])
        )
        memory = [(result.rss - result.rss_idle) / STREAMS / 1024 for result in results]
        rows.append([name, *cells, "" if name == "direct" else factor(spread(memory))])
    columns = ["", "events/s", "µs of CPU each", "events per CPU s", "age p50, ms", "age p99, ms", "KiB each"]
    report.section(f"{STREAMS} streams of 50 events per second", markdown(columns, rows))
    ours, direct = found["pillion"], found["direct"]
    late = [via.age_p99 - alone.age_p99 for via, alone in zip(ours, direct, strict=True)]
    report.objective("at most 20 ms added to the p99 age of an event", late, most=20.0, unit="ms")
    first = [(ours[0].rss - ours[0].rss_idle) / STREAMS / 1024]
    report.objective("at most 50 KiB for a stream", first, most=50.0, unit="KiB")


def _costs(name: str, results: list[ReadResult]) -> list[str]:
    if name == "direct":
        return ["", ""]
    each = [result.cpu_s / max(result.events, 1) * 1e6 for result in results]
    per_cpu_s = [result.events / max(result.cpu_s, 0.01) for result in results]
    return [factor(spread(each)), count(spread(per_cpu_s))]


async def _crowd(report: Report, running: dict[str, Running], options: Options) -> None:
    found = await in_rounds(running, CROWD_EVENTS, options, streams=CROWD)
    keep(report, "crowd", found)
    rows = []
    for name, results in found.items():
        rates = [result.events / result.seconds for result in results]
        per_read = [result.events / max(result.reads, 1) for result in results]
        rows.append([name, count(spread(rates)), *_costs(name, results), factor(spread(per_read))])
    head = ["", "events/s", "µs of CPU each", "events per CPU s", "events a read"]
    report.section(f"{CROWD} streams, more than one core can take", markdown(head, rows))
    per_cpu_s = [result.events / max(result.cpu_s, 0.01) for result in found["pillion"]]
    report.objective("at least 80,000 events per CPU second", per_cpu_s, least=80_000)


async def _bulk(report: Report, running: dict[str, Running], options: Options) -> None:
    found = await in_rounds(running, BULK, options)
    keep(report, "bulk", found)
    rows = []
    for name, results in found.items():
        rates = [result.nbytes / result.seconds / 1e9 for result in results]
        per_cpu_s = [result.nbytes / max(result.cpu_s, 0.01) / 1e9 for result in results]
        rows.append([name, factor(spread(rates)), "" if name == "direct" else factor(spread(per_cpu_s))])
    report.section("Bulk", markdown(["", "GB/s", "GB per CPU s"], rows))
    per_cpu_s = [result.nbytes / max(result.cpu_s, 0.01) / 1e9 for result in found["pillion"]]
    report.objective("at least 1.5 GB per CPU second", per_cpu_s, least=1.5, unit="GB")


async def _first_byte(report: Report, running: dict[str, Running], options: Options) -> None:
    spans: dict[str, list[float]] = defaultdict(list)
    for name in interleaved(list(running), options.rounds):
        taken = await _spans_to_first_byte(running[name].url)
        spans[name].append(quantile(taken[len(taken) // 5 :], 0.5))
    report.data["first_byte_ms"] = spans
    rows = [
        [name, milliseconds(spread(values)), milliseconds(spread(_less(values, spans["direct"])))]
        for name, values in spans.items()
    ]
    report.section("First byte of a stream", markdown(["", "p50, ms", "added, ms"], rows))
    report.objective(
        "at most 0.3 ms added to the p50", _less(spans["pillion"], spans["direct"]), most=0.3, unit="ms"
    )


async def _spans_to_first_byte(url: str) -> list[float]:
    """Milliseconds from the request to the first event, one stream after the other on one connection."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    spans = []
    for _ in range(1000):
        began = time.perf_counter()
        writer.write(get(url, "/events/1/1"))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"data:")
        spans.append((time.perf_counter() - began) * 1e3)
        length = _LENGTH.search(head)  # an answer that came whole may be passed on whole
        if length is None:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await reader.readexactly(int(length[1]) - len(b"data:"))
    writer.close()
    return spans


async def _leaving(report: Report, running: dict[str, Running], source: str) -> None:
    """Without the naive one: its handlers outlive their clients, which would count for the next."""
    found = {
        name: {stage: await spans_until_left(subject.url, source, stage) for stage in STAGES}
        for name, subject in running.items()
        if not name.startswith("naive")
    }
    report.data["leaving_ms"] = found
    rows = [
        [name, *(milliseconds(spread(spans)) for spans in stages.values())] for name, stages in found.items()
    ]
    title = f"A client leaves: ms until the source knows, {PATIENCE_MS:.0f} for never"
    report.section(title, markdown(["", *STAGES], rows))
    worst = [max(max(spans) for spans in found["pillion"].values())]
    report.objective("the source knows within 50 ms, at each stage", worst, most=50.0, unit="ms")


def _less(values: list[float], base: list[float]) -> list[float]:
    return [value - by for value, by in zip(values, base, strict=True)]
