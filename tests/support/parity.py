"""Every answer through the proxy equals the direct one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from proxy.demo.client import get, post
from proxy.demo.run import drive

__all__ = ("Call", "Pair", "batches_by_model", "document")

Call = tuple[str, bytes]
"""Path and body of a POST."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The server's own URL and the proxy's, and how many clients ask the proxy at once."""

    direct: str
    proxied: str
    clients: int = 64

    async def answers(self, calls: list[Call]) -> list[tuple[int, Any]]:
        """The answers to these POSTs through the proxy, each of which equals the direct one."""
        direct = []
        for path, body in calls:  # on fresh connections: after an error some servers close without a word
            direct += (await drive(self.direct, [post(self.direct, path, body)], 1)).answers
        through = await drive(self.proxied, [post(self.proxied, *call) for call in calls], self.clients)
        proxied = [(status, document(body)) for status, body in through.answers]
        assert proxied == [(status, document(body)) for status, body in direct]
        return proxied


async def batches_by_model(admin: str) -> dict[str, dict[str, Any]]:
    """What the proxy whose admin listener is at `admin` tells of each model's batches."""
    ((_, body),) = (await drive(admin, [get(admin, "/status.json")], 1)).answers
    return {model["name"]: model["batches"] for model in json.loads(body)["models"]}


def document(body: bytes) -> object:
    """The answer's content, each number as it is written."""
    try:
        return json.loads(body, parse_float=str, parse_int=str)
    except ValueError:
        return body
