"""The command line: one function for each verb, each returning the process's exit code.

Exit codes: 0 ok, 1 runtime, 2 usage, 3 config invalid, 4 upstream unreachable, 5 objective or regression
failed. What only one verb needs is imported inside it: `healthcheck` runs every few seconds in a container.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from proxy import __version__
from proxy.build import BUILD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.config.load import Loaded

__all__ = ("main",)

EXIT_OK = 0
EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_UPSTREAM = 4

_DEFAULT_ADMIN = "http://127.0.0.1:9901"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the console script and ``python -m proxy`` both end here."""
    arguments = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], int] = arguments.verb
    try:
        return verb(arguments)
    except BrokenPipeError:
        return EXIT_RUNTIME  # the reader of our output left; there is nobody to tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pillion", description="A sidecar that makes a model server faster."
    )
    parser.add_argument("--version", action="version", version=f"pillion {__version__} ({BUILD})")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    serve = verbs.add_parser("serve", help="run until SIGTERM or SIGINT")
    _add_source(serve)
    serve.set_defaults(verb=_serve)

    demo = verbs.add_parser("demo", help="compare direct and proxied on the embedded demo model server")
    demo.add_argument("--requests", type=_positive, default=2000, help="requests at each side (default 2000)")
    demo.add_argument("--keep", action="store_true", help="leave both running until Ctrl-C")
    demo.set_defaults(verb=_demo)

    check = verbs.add_parser("check", help="report every problem of a configuration at once")
    check.add_argument("-c", "--config", required=True, metavar="FILE")
    check.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    check.add_argument("--format", choices=("human", "json", "github"), default="human")
    check.set_defaults(verb=_check)

    dump = verbs.add_parser("dump", help="print the effective configuration, every default included")
    _add_source(dump)
    dump.add_argument("--origin", action="store_true", help="say where each value comes from")
    dump.set_defaults(verb=_dump)

    _add_explain(verbs.add_parser("explain", help="say what would be done with one request; sends nothing"))

    schema = verbs.add_parser("schema", help="print the JSON Schema of the YAML")
    schema.set_defaults(verb=_schema)

    health = verbs.add_parser(
        "healthcheck", help="exit 0 when the proxy is ready, for container health checks"
    )
    _add_admin(health)
    health.add_argument("--live", action="store_true", help="ask for liveness instead of readiness")
    health.set_defaults(verb=_healthcheck)

    models = verbs.add_parser("models", help="list, load, unload, pin models of a running proxy")
    models.add_argument("action", choices=("ls", "load", "unload", "pin", "unpin", "why"))
    models.add_argument("name", nargs="?", default="", help="the model; not for ls")
    _add_admin(models)
    models.set_defaults(verb=_models)

    replay = verbs.add_parser("replay", help="score the loading policy on recorded arrivals, beside others")
    replay.add_argument("trace", metavar="HISTORY", help="history file, access log, or CSV (may be gzipped)")
    replay.add_argument("-c", "--config", required=True, metavar="FILE")
    replay.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    replay.add_argument("--plot", default="", metavar="SVG", help="write a plot to this file")
    replay.set_defaults(verb=_replay)

    status = verbs.add_parser("status", help="print the status document of a running proxy")
    _add_admin(status)
    status.set_defaults(verb=_status)

    _add_cache(verbs.add_parser("cache", help="look at the answers a running proxy keeps, or forget them"))
    return parser


def _add_cache(cache: argparse.ArgumentParser) -> None:
    verbs = cache.add_subparsers(metavar="VERB", required=True)
    stats = verbs.add_parser("stats", help="print what is kept and what came of lookups")
    _add_admin(stats)
    stats.set_defaults(verb=_cache_stats)
    purge = verbs.add_parser("purge", help="forget answers: all, or those of a model or an upstream")
    _add_admin(purge)
    purge.add_argument("--model", default="", metavar="NAME")
    purge.add_argument("--upstream", default="", metavar="NAME")
    purge.set_defaults(verb=_cache_purge)


def _add_explain(explain: argparse.ArgumentParser) -> None:
    source = _add_source(explain)
    source.add_argument("--admin", metavar="URL", help="ask the running proxy whose admin port this is")
    explain.add_argument("--token-file", metavar="FILE", help="holds the admin port's token, if it has one")
    explain.add_argument("method", metavar="METHOD")
    explain.add_argument("url", metavar="URL", help="http://host/path, or only /path")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'")
    explain.add_argument("-d", "--data", default="", metavar="BODY", help="@FILE: the body is in this file")
    explain.add_argument("--format", choices=("human", "json"), default="human")
    explain.set_defaults(verb=_explain)


def _add_source(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-c", "--config", metavar="FILE", help="the YAML file")
    source.add_argument("--upstream", metavar="URL", help="run without a file, in front of this server")
    parser.add_argument("--protocol", default="", metavar="NAME", help="with --upstream: what it speaks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    return source


def _add_admin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--admin", default=_DEFAULT_ADMIN, metavar="URL", help=f"default {_DEFAULT_ADMIN}")
    parser.add_argument("--token-file", metavar="FILE", help="holds the admin port's token, if it has one")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


# ----------------------------------------------------------------- verbs
def _serve(arguments: argparse.Namespace) -> int:
    loaded = _load(arguments)
    if loaded is None:
        return EXIT_CONFIG
    from proxy.process import run  # noqa: PLC0415  the data path's imports are for this verb only

    try:
        run(loaded)
    except OSError as error:
        print(f"pillion: {error}", file=sys.stderr)
        return EXIT_RUNTIME
    return EXIT_OK


def _demo(arguments: argparse.Namespace) -> int:
    from proxy.demo.run import run_demo  # noqa: PLC0415  for this verb only

    return run_demo(requests=arguments.requests, keep=arguments.keep)


def _check(arguments: argparse.Namespace) -> int:
    from proxy.config.load import check, render_problems  # noqa: PLC0415  pydantic is for those who need it

    problems = check(arguments.config, arguments.overrides)
    text = render_problems(problems, arguments.format)
    if text:
        print(text)
    return EXIT_CONFIG if any(problem.severity == "error" for problem in problems) else EXIT_OK


def _dump(arguments: argparse.Namespace) -> int:
    loaded = _load(arguments)
    if loaded is None:
        return EXIT_CONFIG
    from proxy.config.dump import dump  # noqa: PLC0415  for this verb only

    print(dump(loaded, with_origin=arguments.origin), end="")
    return EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    from pathlib import Path  # noqa: PLC0415  for this verb only

    data: str = arguments.data
    try:
        body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
        found = _explained_there(arguments, body) if arguments.admin else _explained_here(arguments, body)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if isinstance(found, int):
        return found
    from proxy.explain.text import as_text  # noqa: PLC0415  for this verb only

    print(json.dumps(found, indent=2) if arguments.format == "json" else as_text(found), end="")
    return EXIT_OK


def _explained_here(arguments: argparse.Namespace, body: bytes) -> dict[str, object] | int:
    """What a proxy with this configuration would do, or the exit code."""
    loaded = _load(arguments)
    if loaded is None:
        return EXIT_CONFIG
    from proxy.app import explain  # noqa: PLC0415  for this verb only
    from proxy.explain.request import Described  # noqa: PLC0415  as above

    return explain(loaded, Described(arguments.method, arguments.url, tuple(arguments.header), body))


def _explained_there(arguments: argparse.Namespace, body: bytes) -> dict[str, object] | int:
    """What the running proxy would do, or the exit code; ValueError when it finds that this is no request."""
    from urllib.parse import urlencode  # noqa: PLC0415  for this verb only

    described = {"method": arguments.method, "url": arguments.url, "header": arguments.header, "body": body}
    status, text = _ask_admin(arguments, f"/explain?{urlencode(described, doseq=True)}")
    if status == 400:
        raise ValueError(json.loads(text)["error"])
    if status != 200:
        print(text.strip() or f"status {status}", file=sys.stderr)
        return EXIT_RUNTIME
    found: dict[str, object] = json.loads(text)
    return found


def _schema(_arguments: argparse.Namespace) -> int:
    from proxy.config.schema import schema_text  # noqa: PLC0415  for this verb only

    print(schema_text(), end="")
    return EXIT_OK


def _healthcheck(arguments: argparse.Namespace) -> int:
    status, body = _ask_admin(arguments, "/livez" if arguments.live else "/readyz")
    if status == 200:
        return EXIT_OK
    print(body.strip() or f"status {status}", file=sys.stderr)
    return EXIT_RUNTIME


def _status(arguments: argparse.Namespace) -> int:
    return _print_answer(*_ask_admin(arguments, "/status.json"))


def _cache_stats(arguments: argparse.Namespace) -> int:
    return _print_cache(*_ask_admin(arguments, "/cache"))


def _cache_purge(arguments: argparse.Namespace) -> int:
    from urllib.parse import urlencode  # noqa: PLC0415  for this verb only

    chosen = {name: vars(arguments)[name] for name in ("model", "upstream") if vars(arguments)[name]}
    target = f"/cache/purge?{urlencode(chosen)}" if chosen else "/cache/purge"
    return _print_cache(*_ask_admin(arguments, target, "POST"))


def _print_cache(status: int, body: str) -> int:
    if status == 404:
        body = "nothing is kept: no model has cache.mode: deterministic, and cache.metadata is 0s"
    return _print_answer(status, body)


def _models(arguments: argparse.Namespace) -> int:
    if (arguments.action == "ls") == bool(arguments.name):
        print("ls takes no model, everything else takes one", file=sys.stderr)
        return EXIT_USAGE
    from urllib.parse import quote  # noqa: PLC0415  for this verb only

    name = quote(arguments.name, safe="")
    if arguments.action == "ls":
        status, body = _ask_admin(arguments, "/models")
    elif arguments.action == "why":
        status, body = _ask_admin(arguments, f"/models/{name}/why")
    else:
        status, body = _ask_admin(arguments, f"/models/{name}/{arguments.action}", method="POST")
    if status not in {200, 202}:
        print(body.strip() or f"status {status}", file=sys.stderr)
        return EXIT_RUNTIME
    document = json.loads(body)
    if arguments.action == "ls":
        _print_models(document)
    elif arguments.action == "why":
        for decision in document["decisions"]:
            at = datetime.fromtimestamp(decision["at"], UTC).isoformat(timespec="milliseconds")
            print(f"{at}  {decision['action']:9} {decision['why']}")
    else:
        print(json.dumps(document))
    return EXIT_OK


def _print_models(document: dict[str, Any]) -> None:
    print(f"{'MODEL':32} {'STATE':10} {'SIZE':>9} {'LOAD':>8} {'RATE/S':>9} {'IDLE':>9}")
    for model in document["models"]:
        size = f"{'' if model['is_size_known'] else '~'}{model['size'] / (1 << 20):.0f}MiB"
        load = f"{'' if model['loads_measured'] else '~'}{model['load_s']:.2f}s"
        notes = " pinned" if model["pinned"] else ""
        notes += f" {model['detail']}" if model["failures"] else ""
        print(
            f"{model['name']:32} {model['state']:10} {size:>9} {load:>8}"
            f" {model['rate']:9.4f} {model['idle_s']:8.1f}s{notes}"
        )
    if any(not model["is_size_known"] or not model["loads_measured"] for model in document["models"]):
        print("~ assumed: not declared or measured yet")


def _replay(arguments: argparse.Namespace) -> int:
    arguments.upstream = None
    loaded = _load(arguments)
    if loaded is None:
        return EXIT_CONFIG
    from proxy.loading.replay import replay  # noqa: PLC0415  for this verb only

    try:
        print(replay(arguments.trace, loaded.config.loading, arguments.plot))
    except (OSError, ValueError) as error:
        print(f"{arguments.trace}: {error}", file=sys.stderr)
        return EXIT_RUNTIME
    return EXIT_OK


# ----------------------------------------------------------------- shared
def _load(arguments: argparse.Namespace) -> Loaded | None:
    """The configuration that the arguments name; problems go to standard error."""
    from proxy.config.load import load_file, load_upstream, render_problems  # noqa: PLC0415  pydantic is slow to import
    from proxy.config.problems import Problem  # noqa: PLC0415  with its loader
    from proxy.errors import ConfigError  # noqa: PLC0415  with its loader

    try:
        if arguments.config is not None:
            loaded = load_file(arguments.config, arguments.overrides)
        else:
            loaded = load_upstream(arguments.upstream, arguments.protocol, arguments.overrides)
    except ConfigError as error:
        problems = [problem for problem in error.problems if isinstance(problem, Problem)]
        print(render_problems(problems, "human"), file=sys.stderr)
        return None
    if loaded.warnings:
        print(render_problems(loaded.warnings, "human"), file=sys.stderr)
    return loaded


def _print_answer(status: int, body: str) -> int:
    if status != 200:
        print(body.strip(), file=sys.stderr)
        return EXIT_RUNTIME
    print(json.dumps(json.loads(body), indent=2))
    return EXIT_OK


def _ask_admin(arguments: argparse.Namespace, path: str, method: str = "GET") -> tuple[int, str]:
    """(status, body) from the running proxy that the arguments name; status 0 when nobody answers."""
    from pathlib import Path  # noqa: PLC0415  only these verbs talk to a running proxy

    from proxy.admin.client import ask  # noqa: PLC0415

    try:
        token = Path(arguments.token_file).read_text("utf-8").strip() if arguments.token_file else ""
    except OSError as error:
        return 0, f"{arguments.token_file}: {error.strerror}"
    return ask(arguments.admin, path, method, token=token)
