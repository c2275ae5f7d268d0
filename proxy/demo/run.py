"""The demonstration: the same requests straight at a model server and through Pillion, answers compared.

Starts the demo server (5 ms for a batch, 0.15 ms for an item, one batch at a time: a small model on one
device) and a proxy in front of it as processes of their own, drives both with 64 clients and with one, and
prints what changed. Every answer through the proxy must equal the direct one, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

import uvloop

from proxy.demo.client import ClientConnection, connect, get, post
from proxy.demo.models import sample_images
from proxy.demo.processes import ChildFailed, child
from proxy.demo.report import percentile, table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("Drive", "compare", "drive", "listener_url", "run_demo", "server_url")

CLIENTS = 64
LONE_REQUESTS = 100
PATH = "/v1/models/digits:predict"
COSTS = ("--fixed-s", "0.005", "--item-s", "0.00015", "--parallelism", "1")
DRIVE_TIMEOUT_S = 300.0

_LISTENING = re.compile(r"\bhttp listening on (?:http://)?(\S+:\d+)")


def server_url(line: str) -> str | None:
    """The demo server's URL, from the line that says that it is ready."""
    return str(json.loads(line)["url"]) if line.startswith("{") else None


def listener_url(line: str) -> str | None:
    """The URL of the proxy's HTTP listener, from the line that says that it is ready."""
    found = _LISTENING.search(line)
    return None if found is None else f"http://{found[1]}"


@dataclass(slots=True)
class Drive:
    """What one round of requests brought: answers by request, latencies in ascending order."""

    answers: list[tuple[int, bytes]]
    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.answers) / self.elapsed_s


async def drive(url: str, requests: Sequence[bytes], clients: int) -> Drive:
    """Send each request once, from `clients` connections that each wait for their answer (closed loop).

    Raises `ConnectionError` when a connection breaks.
    """
    result = Drive([(0, b"")] * len(requests))
    todo = iter(range(len(requests)))
    unanswered = len(requests)
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def proceed(connection: ClientConnection) -> None:
        index = next(todo, None)
        if index is not None:
            connection.send(requests[index], index, monotonic())

    def answered(connection: ClientConnection, status: int, body: bytes) -> None:
        nonlocal unanswered
        if connection.in_flight is None or finished.done():
            return  # an answer that nobody asked for
        index, sent_at = connection.in_flight
        connection.in_flight = None
        result.latencies_s.append(monotonic() - sent_at)
        result.answers[index] = (status, body)
        unanswered -= 1
        if unanswered:
            proceed(connection)
        else:
            finished.set_result(None)

    def lost(connection: ClientConnection) -> None:
        if connection.in_flight is not None and not finished.done():
            finished.set_exception(ConnectionError(f"{url} closed a connection without an answer"))

    connections = [await connect(url, answered, lost) for _ in range(clients)]
    started_at = monotonic()
    for connection in connections:
        proceed(connection)
    try:
        async with asyncio.timeout(DRIVE_TIMEOUT_S):
            await finished
    finally:
        for connection in connections:
            connection.close()
    result.elapsed_s = monotonic() - started_at
    result.latencies_s.sort()
    return result


async def _calls_and_items(url: str) -> tuple[int, int]:
    """What the demo server has computed since the last time."""
    shown = await drive(url, [get(url, "/demo/stats")], 1)
    stats = json.loads(shown.answers[0][1])
    await drive(url, [post(url, "/demo/reset", b"")], 1)
    return stats["calls"], stats["items"]


@dataclass(slots=True)
class _Round:
    name: str
    drive: Drive
    calls: int
    items: int

    def cells(self) -> tuple[str, ...]:
        latencies = self.drive.latencies_s
        return (
            self.name,
            f"{self.drive.rate:,.0f}",
            f"{percentile(latencies, 0.5) * 1e3:.1f}",
            f"{percentile(latencies, 0.99) * 1e3:.1f}",
            f"{self.calls:,}",
            f"{self.items / max(self.calls, 1):.1f}",
        )


async def compare(direct: str, proxied: str, requests: int) -> bool:
    """Drive both URLs, print the table; True when all answers were equal. `direct` is a demo server."""
    images = [image for image, _ in sample_images()]
    bodies = [json.dumps({"instances": [images[i % len(images)]]}).encode() for i in range(requests)]
    rounds: list[_Round] = []
    for clients, count in ((CLIENTS, requests), (1, min(LONE_REQUESTS, requests))):
        for place, url in (("direct", direct), ("through Pillion", proxied)):
            await _calls_and_items(direct)
            result = await drive(url, [post(url, PATH, body) for body in bodies[:count]], clients)
            calls, items = await _calls_and_items(direct)
            plural = "s" if clients > 1 else ""
            rounds.append(_Round(f"{clients} client{plural}, {place}", result, calls, items))
    head = ("", "requests/s", "p50 ms", "p99 ms", "upstream calls", "mean batch")
    print(table(head, [played.cells() for played in rounds]))
    return _verdict(rounds)


def _verdict(rounds: list[_Round]) -> bool:
    crowd_direct, crowd, lone_direct, lone = (played.drive for played in rounds)
    pairs = [*zip(crowd_direct.answers, crowd.answers, strict=True)]
    pairs += zip(lone_direct.answers, lone.answers, strict=True)
    equal = sum(direct == proxied and direct[0] == 200 for direct, proxied in pairs)
    added_ms = (percentile(lone.latencies_s, 0.5) - percentile(lone_direct.latencies_s, 0.5)) * 1e3
    print(
        f"\n{equal:,} of {len(pairs):,} answers through Pillion equal the direct ones. "
        f"{crowd.rate / crowd_direct.rate:.1f} times the throughput with {CLIENTS} clients, "
        f"{added_ms:+.2f} ms for a lone one."
    )
    return equal == len(pairs)


async def _stay(words: str) -> None:
    """Say these words, then wait for SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    print(words, flush=True)
    await stopped.wait()


async def _demo(requests: int, *, keep: bool) -> int:
    python = (sys.executable, "-m")
    async with child((*python, "proxy.demo", *COSTS), server_url) as server:
        serve = (
            *python, "proxy", "serve", "--upstream", server.ready, "--protocol", "kserve-v1",
            "--set", "server.http.listen=127.0.0.1:0", "--set", "server.admin.listen=127.0.0.1:0",
            "--set", "observe.access_log.format=off",
        )  # fmt: skip
        async with child(serve, listener_url) as proxied:
            print(f"Model server {server.ready}, Pillion {proxied.ready}: {requests:,} requests to each.\n")
            equal = await compare(server.ready, proxied.ready, requests)
            if keep:
                await _stay(f"\nBoth go on. Try: curl {proxied.ready}/v1/models\nCtrl-C ends them.")
    return 0 if equal else 1


def run_demo(*, requests: int = 2000, keep: bool = False) -> int:
    """Run the demonstration; 0 when every answer through the proxy equalled the direct one, else 1."""
    try:
        return uvloop.run(_demo(requests, keep=keep))
    except (ChildFailed, ConnectionError, TimeoutError) as error:
        print(f"pillion demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("pillion demo: interrupted", file=sys.stderr)
    return 1
