"""``python -m bench.generator``: a `LoadSpec` on standard input, a `LoadResult` on standard output."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys

import msgspec
import uvloop

from bench.generator.engine import generate
from bench.generator.spec import LoadSpec

__all__ = ("main",)

EXIT_UPSTREAM = 4
"""Nobody listens there."""


def main() -> int:
    """Run what standard input asks for."""
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadSpec)
    if spec.core is not None:
        os.sched_setaffinity(0, {spec.core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if spec.arrivals != "closed":
        _come_first()
    gc.disable()  # a collection would show as latency of the server; the process lives for seconds
    try:
        result = uvloop.run(generate(spec))
    except OSError as error:
        print(f"{spec.url}: {error}", file=sys.stderr)
        return EXIT_UPSTREAM
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


def _come_first() -> None:
    """Get the core at every planned instant, whoever computes there; without the privilege, as others do."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


if __name__ == "__main__":
    sys.exit(main())
