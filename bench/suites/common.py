"""What suites share: their options, subjects that may be missing, closed and open loops in one call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.generator.spec import LoadResult, LoadSpec, verdict
from bench.latency import decoded, quantiles_ms
from bench.load import generated, wrk
from bench.machine import Cores, cores, cpu_s
from proxy.demo.client import get, post
from proxy.demo.run import drive

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AsyncExitStack

    from bench.report import Report
    from bench.subjects import Running

__all__ = (
    "Maximum",
    "Measured",
    "Options",
    "closed_loop",
    "demo_stats",
    "enter_available",
    "maximum",
    "measured",
    "open_loop",
    "valid_pairs",
)


OPEN_CONNECTIONS = 256
"""Connections of an open loop: so many that a free one is always there unless the server has stalled."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often: `seconds` for one measurement, `rounds` of everything."""

    seconds: float
    rounds: int

    @property
    def cores(self) -> Cores:
        """Who runs where."""
        return cores()


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement, ready for a report."""

    rate: float
    quantiles: dict[str, float]
    result: LoadResult
    invalid: str | None

    @property
    def p50(self) -> float:
        """Milliseconds."""
        return self.quantiles["p50"]

    def document(self) -> dict[str, object]:
        """What goes into the JSON."""
        return {
            "rate": round(self.rate, 1),
            **{name: round(value, 3) for name, value in self.quantiles.items()},
            "ok": self.result.ok,
            "statuses": self.result.statuses,
            "errors": self.result.errors,
            "late": self.result.late,
            "waited": self.result.waited,
            "generator_cpu": round(self.result.cpu_share, 3),
            "invalid": self.invalid,
        }


def valid_pairs(these: list[Measured], those: list[Measured]) -> list[tuple[Measured, Measured]]:
    """Round by round, where the generator can vouch for both."""
    pairs = zip(these, those, strict=True)
    return [(this, that) for this, that in pairs if this.invalid is None and that.invalid is None]


async def enter_available(
    stack: AsyncExitStack, report: Report, starting: AbstractAsyncContextManager[Running]
) -> Running | None:
    """Start a subject for as long as `stack` lives; None, with a note, when it is not installed."""
    try:
        return await stack.enter_async_context(starting)
    except (FileNotFoundError, ImportError) as error:
        report.notes.append(f"left out: {error}")
        return None


async def closed_loop(
    url: str, requests: list[bytes], *, connections: int, options: Options, core: int | None = None
) -> Measured:
    """As many requests as `connections` waiting clients get answered; the load on `core`."""
    spec = LoadSpec(
        url=url,
        requests=requests,
        connections=connections,
        seconds=options.seconds,
        is_verifying=True,
        core=options.cores.load if core is None else core,
    )
    return measured(await generated(spec))


async def open_loop(
    url: str, requests: list[bytes], *, rate: float, options: Options, core: int | None = None, seed: int = 1
) -> Measured:
    """Poisson arrivals at `rate`, whatever the server does; the load on `core`."""
    spec = LoadSpec(
        url=url,
        requests=requests,
        connections=OPEN_CONNECTIONS,
        seconds=options.seconds,
        arrivals="poisson",
        rate=rate,
        is_verifying=True,
        core=options.cores.load if core is None else core,
        seed=seed,
    )
    return measured(await generated(spec))


async def demo_stats(url: str) -> dict[str, int]:
    """What a demo server has counted since its last reset, and reset it; only plain counts."""
    shown = await drive(url, [get(url, "/demo/stats")], 1)
    await drive(url, [post(url, "/demo/reset", b"")], 1)
    counts: dict[str, int] = json.loads(shown.answers[0][1])
    return counts


@dataclass(frozen=True, slots=True)
class Maximum:
    """The most that a subject did."""

    rate: float
    per_cpu_s: float
    """Answers per second of its processor time: what a busy machine changes least."""
    errors: int


async def maximum(
    subject: Running,
    path: str,
    body: bytes | None,
    *,
    connections: int,
    options: Options,
    script: str = "",
) -> Maximum:
    """Drive `subject` with wrk: GETs, or POSTs of `body`, or what `script` makes."""
    before = cpu_s(subject.pid)
    found = await wrk(
        subject.url + path,
        body,
        connections=connections,
        seconds=options.seconds,
        core=options.cores.load,
        script=script,
    )
    used = max(cpu_s(subject.pid) - before, 0.01)  # the kernel counts in hundredths
    return Maximum(found.rate, found.requests / used, found.errors)


def measured(result: LoadResult) -> Measured:
    """A generator's result, ready for a report."""
    return Measured(result.rate, quantiles_ms(decoded(result.histogram)), result, verdict(result))
