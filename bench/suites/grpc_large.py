"""Large gRPC messages in both directions: endless answers, and requests of many messages, beside Envoy.

Who is compared fills a core of its own if the client and the backend, on the other one, can keep it busy. The
share of each core is in the table: where the proxy's is not full the load's is, and then bytes per CPU second
alone compare proxies.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bench.calls.bulk import MESSAGE, UPLOAD
from bench.calls.drive import called
from bench.statistics import interleaved, ratios, spread
from bench.subjects import envoy, grpc_backend, pillion_grpc
from bench.suites.common import enter_available
from bench.tables import count, factor, markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.calls.client import CallResult, Kind
    from bench.report import Report
    from bench.suites.common import Options

__all__ = ("large_messages",)

CONNECTIONS = 8
"""With one call on each at a time."""
KINDS: dict[Kind, str] = {"stream": "in endless answers", "upload": f"in requests of {UPLOAD}"}
HEAD = ["one core", "MB/s", "MB per CPU s", "times envoy, MB/s", "times envoy, MB per CPU s",
        "share of its core", "of the load's core"]  # fmt: skip


async def large_messages(report: Report, options: Options) -> None:
    """Measure and add a section for each direction."""
    for kind in KINDS:
        _show(report, kind, await _measured(report, kind, options))


async def _measured(report: Report, kind: Kind, options: Options) -> dict[str, list[CallResult]]:
    where = options.cores
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(grpc_backend(where.backend, kind))
        starters = {
            "direct": grpc_backend(where.proxy, kind),
            "pillion": pillion_grpc(backend.url, where.proxy),
            "envoy": envoy(backend.url, where.proxy, "envoy-grpc.yaml"),
        }
        running = {
            name: subject
            for name, starter in starters.items()
            if (subject := await enter_available(stack, report, starter)) is not None
        }
        found: dict[str, list[CallResult]] = defaultdict(list)
        for name in interleaved(list(running), options.rounds):
            result = await called(
                running[name], options, kind=kind, connections=CONNECTIONS, streams=1, backend=backend.pid
            )
            found[name].append(result)
    return {name: found[name] for name in running}


def _show(report: Report, kind: Kind, found: dict[str, list[CallResult]]) -> None:
    rates = _each(found, lambda result: result.nbytes / result.seconds / 1e6)
    per_cpu_s = _each(found, lambda result: result.nbytes / max(result.cpu_s, 0.01) / 1e6)
    proxy_cpu = _each(found, lambda result: result.cpu_s / result.seconds)
    load_cpu = _each(found, lambda result: result.own_cpu + result.backend_cpu)
    rows = []
    for name in found:
        shares = [
            factor(spread(ratios(values[name], values["envoy"]))) if "envoy" in found else ""
            for values in (rates, per_cpu_s)
        ]
        cells = [count(spread(rates[name])), count(spread(per_cpu_s[name])), *shares]
        rows.append([name, *cells, factor(spread(proxy_cpu[name])), factor(spread(load_cpu[name]))])
    title = f"Messages of {MESSAGE >> 10} KiB {KINDS[kind]}, {CONNECTIONS} connections of one call"
    report.section(title, markdown(HEAD, rows))
    failed = sum(result.failed for results in found.values() for result in results)
    report.objective(f"no failed call, messages {KINDS[kind]}", [failed], most=0)
    if "envoy" in found:
        claim = f"messages of {MESSAGE >> 10} KiB {KINDS[kind]}: what Envoy passes on, per CPU second"
        report.objective(claim, ratios(per_cpu_s["pillion"], per_cpu_s["envoy"]), least=1.0)
    report.data[kind] = {
        "megabytes_per_s": rates,
        "megabytes_per_cpu_s": per_cpu_s,
        "proxy_cpu": proxy_cpu,
        "client_cpu": _each(found, lambda result: result.own_cpu),
        "backend_cpu": _each(found, lambda result: result.backend_cpu),
    }


def _each(found: dict[str, list[CallResult]], read: Callable[[CallResult], float]) -> dict[str, list[float]]:
    return {name: [round(read(result), 3) for result in results] for name, results in found.items()}
