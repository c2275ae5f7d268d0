"""How long a model goes on for a client that has left: from the close to the end of its own connection."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from proxy.demo.client import get, post
from proxy.demo.run import drive

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("PATIENCE_MS", "STAGES", "spans_until_left")

PATIENCE_MS: Final = 250.0
"""What counts as never."""
_LOOK_S: Final = 0.001
_TIMES: Final = 10

STAGES: Final[dict[str, tuple[Callable[[str], bytes], bytes]]] = {
    "before the head": (lambda url: get(url, "/hang"), b""),
    "in a batch": (lambda url: post(url, "/v1/embeddings", b'{"model": "m", "input": ["a"]}'), b""),
    "between two events": (lambda url: get(url, "/events/1000000000"), b"\r\n\r\n"),
    "with an answer that it does not read": (lambda url: get(url, f"/bytes/{1 << 50}"), b"\r\n\r\n"),
}
"""What a client asks, and what it has read when it leaves."""


async def spans_until_left(url: str, source: str, stage: str) -> list[float]:
    """Milliseconds until the connection to `source` ends whose client at `url` has left in `stage`."""
    make, awaited = STAGES[stage]
    return [await _span(url, source, make(url), awaited) for _ in range(_TIMES)]


async def _span(url: str, source: str, request: bytes, awaited: bytes) -> float:
    parts = urlsplit(url)
    _, before = await _state(source)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    if awaited:
        await reader.readuntil(awaited)
    busy = 0
    while not busy:
        await asyncio.sleep(10 * _LOOK_S)  # what is under way arrives meanwhile
        busy, _ = await _state(source)
    began = time.monotonic_ns()
    writer.close()
    left_at = before
    while len(left_at) == len(before) and time.monotonic_ns() - began < PATIENCE_MS * 1e6:
        await asyncio.sleep(_LOOK_S)
        _, left_at = await _state(source)
    return (left_at[-1] - began) / 1e6 if len(left_at) > len(before) else PATIENCE_MS


async def _state(source: str) -> tuple[int, list[int]]:
    """How many wait at the source, and when it lost each client that waited."""
    shown = json.loads((await drive(source, [get(source, "/left")], 1)).answers[0][1])
    return shown["busy"], shown["left_at"]
