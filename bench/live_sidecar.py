"""Pillion as a process of its own in front of a server whose models it loads; it ends with its block."""

from __future__ import annotations

import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.demo.processes import child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("Sidecar", "sidecar")

CONFIG = """version: 1
server: {{http: {{listen: "127.0.0.1:0"}}, admin: {{listen: "127.0.0.1:0"}}}}
upstreams: {{model: {{protocol: open-inference, http: ["{url}"]}}}}
models: {{"*": {{batch: {{mode: "off"}}}}}}
observe: {{access_log: {{format: "off"}}}}
loading: {{control: {{every: 2s}}, {loading}}}
"""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A running Pillion."""

    url: str
    admin: str
    pid: int


@asynccontextmanager
async def sidecar(url: str, loading: str, core: int) -> AsyncIterator[Sidecar]:
    """One that speaks Open Inference to `url`; `loading` is its policy, in YAML."""
    with tempfile.TemporaryDirectory(prefix="pillion-bench-") as folder:
        config = Path(folder) / "pillion.yaml"
        config.write_text(CONFIG.format(url=url, loading=loading), encoding="utf-8")
        command = (sys.executable, "-m", "proxy", "serve", "-c", str(config))
        async with child(command, _Listening(), core=core) as process:
            yield Sidecar(process.ready["http"], process.ready["admin"], process.pid)


class _Listening:
    """True of the last line that `serve` prints when it is ready: where its listeners are."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __call__(self, line: str) -> dict[str, str] | None:
        words = line.split()
        if words[:1] == ["pillion"] and words[2:4] == ["listening", "on"]:
            self._found[words[1]] = words[4]
        return self._found if "admin" in self._found else None
