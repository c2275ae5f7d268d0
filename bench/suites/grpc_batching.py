"""Batched `ModelInfer` on a real server: MLServer's random forest over gRPC, alone and behind Pillion.

One row costs the forest about 12 ms and a hundred rows about 18. Each caller sends one row of the digits data
as raw contents and asks again when it has its answer.
"""

from __future__ import annotations

import struct
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.calls.drive import called
from bench.statistics import interleaved, ratios, spread
from bench.subjects import Running, pillion_grpc
from bench.tables import count, factor, markdown, milliseconds
from proxy.demo.models import sample_images
from tests.support.mlserver import FOREST, mlserver, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.calls.client import CallResult
    from bench.report import Report
    from bench.suites.common import Options

__all__ = ("batched_inference",)

CALLERS = 128
AIM = 20.0


async def batched_inference(report: Report, options: Options) -> None:
    """Measure and add the section; left out, with a note, where MLServer is not installed."""
    found: dict[str, list[CallResult]] = defaultdict(list)
    where = options.cores
    bodies = [infer_message([image]) for image, _ in sample_images()]
    async with AsyncExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pillion-bench-")))
            server = await stack.enter_async_context(mlserver(train(folder / "models"), core=where.backend))
        except (ImportError, FileNotFoundError) as error:
            report.notes.append(f"left out: {error}")
            return
        url = f"http://{server.grpc}"
        proxy = pillion_grpc(url, where.proxy, batch="mode: adaptive")
        running = {
            "direct": Running("direct", url, server.pid),
            "pillion": await stack.enter_async_context(proxy),
        }
        for name in interleaved(list(running), options.rounds):
            # the forest computes all the time: beside it the client would be late
            result = await called(running[name], options, connections=8, streams=CALLERS // 8,
                                  bodies=bodies, core=where.proxy)  # fmt: skip
            found[name].append(result)
    _show(report, found)


def _show(report: Report, found: dict[str, list[CallResult]]) -> None:
    rates = {name: [result.answers / result.seconds for result in rounds] for name, rounds in found.items()}
    rows = [
        [
            name,
            count(spread(rates[name])),
            factor(spread(ratios(rates[name], rates["direct"]))),
            milliseconds(spread([result.p50 for result in rounds])),
            milliseconds(spread([result.p99 for result in rounds])),
            str(sum(result.failed for result in rounds)),
        ]
        for name, rounds in found.items()
    ]
    head = ["", "calls/s", "times direct", "p50, ms", "p99, ms", "failed"]
    report.section(f"ModelInfer on MLServer's random forest, {CALLERS} callers", markdown(head, rows))
    claim = f"{AIM:g} times the direct ModelInfer calls of MLServer's forest"
    report.objective(claim, ratios(rates["pillion"], rates["direct"]), least=AIM)
    report.data["model_infer"] = {
        "callers": CALLERS,
        "rate": rates,
        "p99_ms": {name: [result.p99 for result in rounds] for name, rounds in found.items()},
        "failed": {name: sum(result.failed for result in rounds) for name, rounds in found.items()},
    }


def infer_message(rows: Sequence[Sequence[float]]) -> bytes:
    """A gRPC message: `ModelInferRequest` for the forest with one FP32 tensor in raw contents."""
    shape = b"".join(map(_varint, (len(rows), len(rows[0]))))
    tensor = _field(1, b"image") + _field(2, b"FP32") + _field(3, shape)
    values = [value for row in rows for value in row]
    body = (
        _field(1, FOREST.encode()) + _field(5, tensor) + _field(7, struct.pack(f"<{len(values)}f", *values))
    )
    return b"\0" + len(body).to_bytes(4, "big") + body


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*octets, value))
