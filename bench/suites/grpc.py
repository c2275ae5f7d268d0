"""What a gRPC call that is only forwarded costs, beside Envoy, a proxy on grpc.aio, and no proxy.

* **maxima**: the most small unary calls that one core forwards: h2load with 8 connections of 16 streams each,
  and with 64 of one; its header blocks repeat;
* **shapes**: the same load from a client that writes its header blocks as three kinds of clients do (see
  `bench.calls.wire`), and checks every status;
* **one caller**: what is added to the p50 of a client that asks again when it has its answer;
* **large messages**, of 64 KiB in DATA frames of 16 KiB: endless answers, and requests of 64 messages;
* **batched inference** on MLServer's random forest, where MLServer is installed.

Backend and client never decode a block that they have seen and compute nothing; with two cores they share
one. Whoever is compared with them has the other core for itself, so that calls per second and calls per CPU
second say the same unless the client or the backend was the bottleneck: beside large messages the shares
of both cores are shown.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bench.calls.drive import called
from bench.calls.wire import QUESTION, SHAPES
from bench.load import h2load
from bench.machine import cpu_s
from bench.report import Report
from bench.statistics import interleaved, ratios, spread
from bench.subjects import Running, envoy, grpc_backend, naive_grpc, pillion_grpc
from bench.suites.common import Maximum, enter_available
from bench.suites.grpc_batching import batched_inference
from bench.suites.grpc_large import large_messages
from bench.tables import count, factor, markdown, milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.calls.client import CallResult
    from bench.suites.common import Options

__all__ = ("grpc",)

Result = TypeVar("Result")

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LOADS = {"8 × 16": (8, 16), "64 × 1": (64, 1)}
"""Connections and streams on each."""
AIMS = {"envoy": 2.0, "naive grpc.aio": 8.0}
"""Who Pillion is compared with, and how many times their unary calls it aims at."""


async def grpc(options: Options, *, with_mlserver: bool = True) -> Report:
    """Run the suite; MLServer needs the extra ``real``."""
    report = Report("grpc", "What does one core forward of gRPC, and what does it add?")
    async with AsyncExitStack() as stack:
        running = await _subjects(stack, report, options)
        await _maxima(report, running, options)
        await _shapes(report, running, options)
        await _one_caller(report, running, options)
    await large_messages(report, options)
    if with_mlserver:
        await batched_inference(report, options)
    return report


async def _subjects(stack: AsyncExitStack, report: Report, options: Options) -> dict[str, Running]:
    backend = await stack.enter_async_context(grpc_backend(options.cores.backend, "unary"))
    core = options.cores.proxy
    running = {"direct": await stack.enter_async_context(grpc_backend(core, "unary"))}
    starters = (
        pillion_grpc(backend.url, core),
        envoy(backend.url, core, "envoy-grpc.yaml"),
        naive_grpc(backend.url, core),
    )
    for starter in starters:
        subject = await enter_available(stack, report, starter)
        if subject is not None:
            running[subject.name] = subject
    return running


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one kind: by load, by subject, one for each round."""

    title: str
    values: dict[str, dict[str, list[float]]]

    def show(self, report: Report) -> None:
        """Add a section with a column for each load, and the ratio to Envoy of the same."""
        loads = list(self.values)
        subjects = list(self.values[loads[0]])
        rows = []
        for subject in subjects:
            cells = [count(spread(by_subject[subject])) for by_subject in self.values.values()]
            shares = [
                factor(spread(ratios(by_subject[subject], by_subject["envoy"])))
                for by_subject in self.values.values()
                if "envoy" in by_subject
            ]
            rows.append([subject, *cells, *shares])
        head = ["one core", *loads, *(f"{load}, times envoy" for load in loads if "envoy" in subjects)]
        report.section(self.title, markdown(head, rows))


# ----------------------------------------------------------------- unary calls
async def _maxima(report: Report, running: dict[str, Running], options: Options) -> None:
    async def one(subject: Running, load: str) -> Maximum:
        connections, streams = LOADS[load]
        before = cpu_s(subject.pid)
        found = await h2load(
            subject.url + METHOD,
            QUESTION,
            connections=connections,
            streams=streams,
            seconds=options.seconds,
            core=options.cores.load,
        )
        used = max(cpu_s(subject.pid) - before, 0.01)
        # the CPU time is that of the warm-up second too, whose calls h2load does not count
        share = round(options.seconds) / (round(options.seconds) + 1)
        return Maximum(found.rate, found.requests / (used * share), found.errors)

    found = await _rounds(running, list(LOADS), options, one)
    rates = _by(found, lambda most: most.rate)
    per_cpu_s = _by(found, lambda most: most.per_cpu_s)
    Table("Unary calls per second: h2load, connections × streams", rates).show(report)
    Table("Unary calls per CPU second of the proxy", per_cpu_s).show(report)
    report.data["maxima"] = {
        "rate": rates,
        "per_cpu_s": per_cpu_s,
        "errors": _by(found, lambda most: most.errors),
    }
    _unary_objectives(report, per_cpu_s, "h2load")


def _unary_objectives(report: Report, values: dict[str, dict[str, list[float]]], client: str) -> None:
    for load, by_subject in values.items():
        for base, aim in AIMS.items():
            if base in by_subject:
                claim = f"{client}, {load}: {aim:g} times the unary calls of {base}, per CPU second"
                report.objective(claim, ratios(by_subject["pillion"], by_subject[base]), least=aim)


async def _shapes(report: Report, running: dict[str, Running], options: Options) -> None:
    async def one(subject: Running, shape: str) -> CallResult:
        return await called(subject, options, shape=shape)

    found = await _rounds(running, list(SHAPES), options, one)
    per_cpu_s = _by(found, lambda result: result.answers / max(result.cpu_s, 0.01))
    Table("Unary calls per CPU second, by how the client writes its header blocks", per_cpu_s).show(report)
    failed = {
        name: sum(result.failed for by_subject in found.values() for result in by_subject[name])
        for name in running
    }
    report.data["shapes"] = {
        "per_cpu_s": per_cpu_s,
        "rate": _by(found, lambda result: result.answers / result.seconds),
        "client_cpu": _by(found, lambda result: round(result.own_cpu, 3)),
        "failed": failed,
    }
    _unary_objectives(report, per_cpu_s, "own client")
    report.objective("no failed call", [sum(failed.values())], most=0)


async def _one_caller(report: Report, running: dict[str, Running], options: Options) -> None:
    async def one(subject: Running, _load: str) -> CallResult:
        return await called(subject, options, shape="literal", connections=1, streams=1)

    found = await _rounds(running, ["one caller"], options, one)
    p50 = {name: [result.p50 for result in rounds] for name, rounds in found["one caller"].items()}
    p99 = {name: [result.p99 for result in rounds] for name, rounds in found["one caller"].items()}
    added = {
        name: [value - base for value, base in zip(values, p50["direct"], strict=True)]
        for name, values in p50.items()
    }
    rows = [[name, *(milliseconds(spread(part[name])) for part in (p50, added, p99))] for name in p50]
    report.section("One caller", markdown(["", "p50, ms", "p50 added, ms", "p99, ms"], rows))
    report.objective("at most 0.15 ms added to the p50 of one caller", added["pillion"], most=0.15, unit="ms")
    report.data["one_caller"] = {"p50_ms": p50, "p99_ms": p99}


# ----------------------------------------------------------------- driving
async def _rounds(
    running: dict[str, Running],
    loads: list[str],
    options: Options,
    one: Callable[[Running, str], Awaitable[Result]],
) -> dict[str, dict[str, list[Result]]]:
    """`one` measurement of each subject under each load in each round: by load, by subject."""
    found: dict[str, dict[str, list[Result]]] = {load: defaultdict(list) for load in loads}
    for name in interleaved(list(running), options.rounds):
        for load in loads:
            found[load][name].append(await one(running[name], load))
    return {load: {name: by_name[name] for name in running} for load, by_name in found.items()}


def _by(
    found: dict[str, dict[str, list[Result]]], read: Callable[[Result], float]
) -> dict[str, dict[str, list[float]]]:
    return {
        load: {name: [read(result) for result in rounds] for name, rounds in by_name.items()}
        for load, by_name in found.items()
    }
