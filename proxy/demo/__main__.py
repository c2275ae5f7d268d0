"""Run a demo server until SIGTERM or SIGINT. Prints one JSON line when it is ready."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import uvloop

from proxy.demo.models import KINDS
from proxy.demo.options import DEFAULT_MODELS, DemoOptions, ModelSpec
from proxy.demo.server import start

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main", "parse_options")


def _model(text: str) -> ModelSpec:
    name, _, rest = text.partition("=")
    kind, _, load_s = rest.partition(":")
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r}: the kind is one of {', '.join(KINDS)}")
    return ModelSpec(name, kind, float(load_s or 0))


def parse_options(arguments: Sequence[str] | None = None) -> tuple[str, int, DemoOptions]:
    """Host, port and options from the command line: each field of `DemoOptions` is a flag."""
    parser = argparse.ArgumentParser(prog="python -m proxy.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", dest="models", action="append", type=_model, metavar="NAME=KIND[:LOAD_S]")
    parser.add_argument("--fault", dest="faults", action="append", default=[], metavar="FAULT")
    for option in fields(DemoOptions):
        if option.name in {"models", "faults"}:
            continue
        flag = "--" + option.name.replace("_", "-")
        if isinstance(option.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(option.default), default=option.default)
    namespace = vars(parser.parse_args(arguments))
    host, port = namespace.pop("host"), namespace.pop("port")
    models = (*DEFAULT_MODELS, *(namespace.pop("models") or ()))
    return host, port, DemoOptions(models=models, faults=tuple(namespace.pop("faults")), **namespace)


async def _serve(host: str, port: int, options: DemoOptions) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await start(options, host, port)
    try:
        print(json.dumps({"url": server.url, "port": server.port, "pid": os.getpid()}), flush=True)
        await stopped.wait()
    finally:
        await server.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; the exit code is 0."""
    host, port, options = parse_options(arguments)
    uvloop.run(_serve(host, port, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
