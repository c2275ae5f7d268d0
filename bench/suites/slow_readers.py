"""What waiting costs: memory behind a slow reader or before a slow backend, and the patience of everybody
else.

* **answer**: 1 GiB read at 50 MB/s to its end, and an endless answer read at 5 MB/s: how much the memory
  grows, and how far the source runs ahead of the reader;
* **upload**: 1 GiB into a backend that takes 50 MB/s: the same, and how far the client runs ahead;
* **crowd**: 200 readers of 250 kB/s at once: the memory of all of them, and the latency of small requests
  beside them, with and without, once the first burst (what the kernels' buffers take) is over. For at least
  five seconds: of fewer requests, one pause of the machine makes the slowest hundredth.

The sender's own kernel buffer takes about 4 MiB on loopback, which counts as ahead; so does what the other
end's kernel has received: 0.1 MiB for 5 MB/s, but up to 1 MiB for 50 MB/s, because it grows with the pace.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.report import Report
from bench.statistics import interleaved, spread
from bench.streams.measure import Found, in_rounds, keep, read, source
from bench.subjects import Running, naive, nginx, pillion
from bench.suites.common import Measured, Options, enter_available, open_loop
from bench.tables import factor, markdown, milliseconds
from proxy.demo.client import get

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.streams.reader import ReadResult

__all__ = ("slow_readers",)

MiB = 1 << 20
GIB = f"/bytes/{1 << 30}"
ENDLESS = f"/bytes/{1 << 50}"
FAST, SLOW = 50e6, 5e6
CROWD, CROWD_RATE = 200, 50e6  # bytes per second of all together
SMALL_RATE, SMALL_S = 300.0, 5.0
POOL = "{http: {max: 2000, connect: 5s}}"


async def slow_readers(options: Options) -> Report:
    """Run the suite."""
    report = Report("slow-readers", "What does it cost to wait for a slow reader, or a slow backend?")
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(source(options.cores.backend))
        running = {"direct": origin}
        core = options.cores.proxy
        for starter in (
            pillion(origin.url, core, pool=POOL),
            nginx(origin.url, core, more="proxy_buffering off; proxy_request_buffering off;"),
            naive(origin.url, core),
        ):
            subject = await enter_available(stack, report, starter)
            if subject is not None:
                running[subject.name] = subject
        ours = {"pillion": running["pillion"]}
        whole = await in_rounds(ours, GIB, options, rate=FAST, most=1 << 30, source=origin.url, seconds=60.0)
        _table(report, "1 GiB at 50 MB/s", "answer_whole", whole)
        slow = await in_rounds(running, ENDLESS, options, rate=SLOW, source=origin.url)
        _table(report, "A reader of 5 MB/s", "answer", slow)
        into = await in_rounds(
            ours, f"/take/{FAST:.0f}", options, upload=1 << 30, source=origin.url, seconds=60.0
        )
        _table(report, "1 GiB into a backend of 50 MB/s", "upload", into)
        _memory(report, "reading 1 GiB", whole)
        _memory(report, "uploading 1 GiB", into)
        for doing, found in (("its reader of 5 MB/s", slow), ("its backend", into)):
            ahead = [result.ahead / MiB for result in found["pillion"]]
            report.objective(f"a sender is at most 5 MiB ahead of {doing}", ahead, most=5.0, unit="MiB")
        await _crowd(report, running, options)
    return report


def _table(report: Report, title: str, name: str, found: Found) -> None:
    keep(report, name, found)
    rows = []
    for who, results in found.items():
        rates = [result.nbytes / result.seconds / 1e6 for result in results]
        ahead = [result.ahead / MiB for result in results]
        moved = [result.nbytes / MiB for result in results]
        grown = "" if who == "direct" else factor(spread(_grown(results)))
        rows.append(
            [who, *(factor(spread(values)) for values in (moved, rates)), grown, factor(spread(ahead))]
        )
    head = ["", "MiB moved", "MB/s", "memory grown, MiB", "sender ahead, MiB"]
    report.section(title, markdown(head, rows))


def _grown(results: Sequence[ReadResult]) -> list[float]:
    return [(result.rss - result.rss_idle) / MiB for result in results]


def _memory(report: Report, doing: str, found: Found) -> None:
    grown = _grown(found["pillion"])
    report.objective(f"memory grows by at most 16 MiB while {doing}", grown, most=16.0, unit="MiB")


async def _crowd(report: Report, running: dict[str, Running], options: Options) -> None:
    options = replace(options, seconds=max(options.seconds, SMALL_S))
    found: Found = {name: [] for name in running}
    alone: dict[str, list[Measured]] = {name: [] for name in running}
    beside: dict[str, list[Measured]] = {name: [] for name in running}
    for name in interleaved(list(running), options.rounds):
        subject = running[name]
        alone[name].append(await _small(subject, options))
        reading = read(subject, ENDLESS, options, streams=CROWD, rate=CROWD_RATE, seconds=options.seconds + 4)
        result, small = await asyncio.gather(reading, _small(subject, options, after_s=3.5))
        found[name].append(result)
        beside[name].append(small)
    keep(report, "crowd", found)
    report.data["small"] = {
        name: {"alone": _documents(alone[name]), "beside": _documents(beside[name])} for name in running
    }
    rows = []
    for name in running:
        cells = [
            milliseconds(spread([small.quantiles["p99"] for small in each[name]])) for each in (alone, beside)
        ]
        rows.append([name, "" if name == "direct" else factor(spread(_grown(found[name]))), *cells])
    head = ["", "memory grown, MiB", "p99 of others without, ms", "with, ms"]
    report.section(
        f"{CROWD} readers of 250 kB/s, and {SMALL_RATE:.0f} small requests per second", markdown(head, rows)
    )
    grown = _grown(found["pillion"])
    report.objective("200 slow readers stay within the budget of 256 MiB", grown, most=256.0, unit="MiB")
    added = [
        (those.quantiles["p99"] - these.quantiles["p99"])
        - (theirs.quantiles["p99"] - before.quantiles["p99"])
        for those, these, theirs, before in zip(
            beside["pillion"], alone["pillion"], beside["direct"], alone["direct"], strict=True
        )
    ]
    report.objective("at most 2 ms added to the p99 of others, beyond direct", added, most=2.0, unit="ms")


async def _small(subject: Running, options: Options, *, after_s: float = 0.0) -> Measured:
    await asyncio.sleep(after_s)
    return await open_loop(subject.url, [get(subject.url, "/small")], rate=SMALL_RATE, options=options)


def _documents(measured: list[Measured]) -> list[dict[str, object]]:
    return [one.document() for one in measured]
