"""``python -m bench``: one verb for each suite, and ``load`` for a server of one's own.

Suites write ``bench/results/<suite>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvloop

from bench.load import LoadFailed
from bench.machine import is_busy
from bench.report import RESULTS
from bench.suites.batching import batching
from bench.suites.caching import caching
from bench.suites.common import Options
from bench.suites.grpc import grpc
from bench.suites.hostile import hostile
from bench.suites.load import LoadOptions, load
from bench.suites.loading import loading
from bench.suites.loading_beside import loading_beside
from bench.suites.loading_live import loading_live
from bench.suites.passthrough import passthrough
from bench.suites.slow_readers import slow_readers
from bench.suites.streaming import streaming
from proxy.demo.processes import ChildFailed

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from bench.report import Report

__all__ = ("main",)

EXIT_RUNTIME = 1
EXIT_UPSTREAM = 4
EXIT_OBJECTIVE = 5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measurements over loopback.")
    verbs = parser.add_subparsers(metavar="SUITE", required=True)
    suite = argparse.ArgumentParser(add_help=False)
    suite.add_argument("--seconds", type=float, default=8.0, help="length of one measurement (default 8)")
    suite.add_argument("--rounds", type=int, default=3, help="rounds, interleaved (default 3)")
    suite.add_argument("--strict", action="store_true", help="exit code 5 when an objective is missed")
    suite.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")

    verb = verbs.add_parser("passthrough", parents=[suite], help="what one core forwards, and what it adds")
    verb.add_argument("--idle", type=int, default=10_000, help="idle connections (default 10000)")
    verb.set_defaults(run=lambda given: passthrough(_options(given), idle=given.idle))

    verb = verbs.add_parser("batching", parents=[suite], help="throughput and latency of coalesced inference")
    verb.add_argument("--without-mlserver", action="store_true", help="only the demo server")
    verb.set_defaults(run=lambda given: batching(_options(given), with_mlserver=not given.without_mlserver))

    verb = verbs.add_parser("caching", parents=[suite], help="what a kept answer costs, what a crowd asks")
    verb.set_defaults(run=lambda given: caching(_options(given)))

    verb = verbs.add_parser("streaming", parents=[suite], help="what passing a stream on costs")
    verb.set_defaults(run=lambda given: streaming(_options(given)))

    verb = verbs.add_parser("slow-readers", parents=[suite], help="what waiting for the slower side costs")
    verb.set_defaults(run=lambda given: slow_readers(_options(given)))

    verb = verbs.add_parser("loading", parents=[suite], help="model loading: traces replayed beside others")
    verb.set_defaults(run=lambda given: loading(given.out))

    verb = verbs.add_parser("loading-live", parents=[suite], help="what first requests wait on MLServer")
    verb.add_argument("--span", type=float, default=100.0, help="seconds of traffic (default 100)")
    verb.add_argument("--models", type=Path, help="folder that keeps the trained models from run to run")
    verb.set_defaults(run=lambda given: loading_live(_options(given), span_s=given.span, models=given.models))

    verb = verbs.add_parser("loading-beside", parents=[suite], help="who else waits for a load on MLServer")
    verb.add_argument("--models", type=Path, help="folder that keeps the trained models from run to run")
    verb.set_defaults(run=lambda given: loading_beside(_options(given), models=given.models))

    verb = verbs.add_parser("hostile", parents=[suite], help="healthy clients beside a thousand slow ones")
    verb.set_defaults(run=lambda given: hostile(_options(given)))

    verb = verbs.add_parser("grpc", parents=[suite], help="gRPC: what one core forwards, and what it adds")
    verb.add_argument("--without-mlserver", action="store_true", help="no batched inference")
    verb.set_defaults(run=lambda given: grpc(_options(given), with_mlserver=not given.without_mlserver))

    verb = verbs.add_parser("load", help="drive any URL with the same generators")
    verb.add_argument("url", type=_http_url, metavar="URL", help="http://host:port/path")
    verb.add_argument("--connections", type=int, default=64)
    verb.add_argument("--rate", type=float, default=0.0, help="requests per second; 0: a closed loop")
    verb.add_argument("--constant", action="store_true", help="even spacing instead of Poisson arrivals")
    verb.add_argument("--seconds", type=float, default=10.0)
    verb.add_argument("--method", help="default: POST with a body, GET without")
    verb.add_argument("--body", default="", metavar="TEXT|@FILE")
    verb.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    verb.set_defaults(run=lambda given: load(_load_options(given)), out=None)
    return parser


def _http_url(text: str) -> str:
    if not re.match(r"http://[^/\s]+(/\S*)?$", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not http://host:port/path")
    return text


def _options(given: argparse.Namespace) -> Options:
    return Options(seconds=given.seconds, rounds=given.rounds)


def _load_options(given: argparse.Namespace) -> LoadOptions:
    body = Path(given.body[1:]).read_bytes() if given.body.startswith("@") else given.body.encode()
    parts = urlsplit(given.url)
    return LoadOptions(
        server=f"{parts.scheme}://{parts.netloc}",
        target=given.url[len(f"{parts.scheme}://{parts.netloc}") :] or "/",
        method=given.method or ("POST" if body else "GET"),
        headers=tuple(given.header),
        body=body,
        connections=given.connections,
        rate=given.rate,
        is_constant=given.constant,
        seconds=given.seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name; the exit code.

    0, or 1: a bad load or a missing program, 4: nobody listens, 5: an objective missed (``--strict``).
    """
    given = _parser().parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited by every process that is started
    run: Coroutine[object, object, Report | int] = given.run(given)
    was_busy = is_busy()
    try:
        outcome = uvloop.run(run)
    except LoadFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_UPSTREAM
    except (ChildFailed, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_RUNTIME
    if isinstance(outcome, int):
        return outcome
    if was_busy:
        outcome.notes.append("the machine was busy before this began: trust ratios, not absolute figures")
    print(f"written: {outcome.write(given.out)}")
    is_missed = any(not aim.is_met for aim in outcome.objectives)
    return EXIT_OBJECTIVE if given.strict and is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
