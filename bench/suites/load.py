"""``python -m bench load URL``: the generators on a server of one's own."""

from __future__ import annotations

from dataclasses import dataclass

from bench.generator.spec import LoadSpec
from bench.load import generated
from bench.suites.common import measured
from proxy.demo.report import table

__all__ = ("LoadOptions", "load", "request_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What to send, and how; `rate` 0 is a closed loop."""

    server: str
    target: str
    method: str
    headers: tuple[str, ...]
    body: bytes
    connections: int
    rate: float
    is_constant: bool
    seconds: float


def request_bytes(options: LoadOptions) -> bytes:
    """The request on the wire; Host, Content-Type (JSON) and Content-Length unless given."""
    fields = {"Host": options.server.partition("://")[2]}
    if options.body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(options.body))}
    for header in options.headers:
        name, _, value = header.partition(":")
        same = next((known for known in fields if known.lower() == name.strip().lower()), name.strip())
        fields[same] = value.strip()
    lines = [f"{options.method} {options.target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + options.body


async def load(options: LoadOptions) -> int:
    """Measure and print; 0 when the measurement is valid and every answer was good, else 1."""
    arrivals = "closed" if not options.rate else "constant" if options.is_constant else "poisson"
    found = measured(
        await generated(
            LoadSpec(
                url=options.server,
                requests=[request_bytes(options)],
                connections=options.connections,
                seconds=options.seconds,
                arrivals=arrivals,  # type: ignore[arg-type]  # one of the three by construction
                rate=options.rate,
            )
        )
    )
    result = found.result
    rows = [("requests/s", f"{found.rate:,.1f}")]
    rows += [(f"{name}, ms", f"{value:.3f}") for name, value in found.quantiles.items()]
    rows += [(f"status {status}", f"{count:,}") for status, count in result.statuses.items()]
    rows += [(f"{name}", f"{count:,}") for name, count in result.errors.items()]
    rows += [("found no free connection", f"{result.waited:,}")] if result.is_open else []
    rows.append(("generator, of one core", f"{result.cpu_share:.0%}"))
    print(table((f"{options.method} {options.server}{options.target}", arrivals), rows))
    if found.invalid:
        print(f"INVALID: {found.invalid}")
    return 1 if found.invalid or result.errors or result.ok < result.answered else 0
