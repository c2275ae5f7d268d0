"""Ollama: a request without a prompt loads, ``keep_alive`` 0 unloads.

Loads are asked for with ``keep_alive`` -1, so that the sidecar alone decides when they end; but every later
request that brings no ``keep_alive`` of its own re-arms the server's default of five minutes, and the server
may evict on its own. Both are seen in the listing and are not fought. An embedding-only model refuses to
generate and is loaded by embedding nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError, poll

if TYPE_CHECKING:
    from proxy.loading.control.base import Answer, ControlHttp

__all__ = ("OllamaControl", "full_name")


def full_name(model: str) -> str:
    """What the server lists a model as: a name without a tag means the latest."""
    return model if ":" in model else f"{model}:latest"


class OllamaControl:
    """`http` is the server's own port."""

    protocol = "ollama"
    can_unload = True
    can_cancel = True  # the server gives a load up when its last caller has left

    def __init__(self, http: ControlHttp) -> None:
        self._http = http

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """All models that were pulled, and the memory of those that run."""
        tags = await self._http.get("/api/tags")
        reports = {entry["name"]: Report("unloaded") for entry in tags.get("models") or []}
        return reports | await self._running()

    async def load(self, model: str) -> int:
        """Load, and read its size."""
        answer = await self._keep(model, -1)
        if not answer.is_ok:
            raise answer.failure()
        running = await self._running()
        return running[model].size if model in running else 0

    async def unload(self, model: str) -> None:
        """Ask it to leave; the server answers at once and frees the memory a little later."""
        answer = await self._keep(model, 0)
        if not answer.is_ok and answer.status != 404:
            raise answer.failure()

        async def is_gone() -> bool:
            return model not in await self._running()

        await poll(is_gone)

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """Never: the server loads what it is asked for."""
        return False

    async def _keep(self, model: str, keep_alive: int) -> Answer:
        answer = await self._http.ask(
            "POST", "/api/generate", {"model": model, "keep_alive": keep_alive, "stream": False}
        )
        if answer.status == 400 and b"does not support generate" in answer.body:
            return await self._http.ask(
                "POST", "/api/embed", {"model": model, "input": "", "keep_alive": keep_alive}
            )
        if answer.status == 503:
            raise ControlError("unreachable", f"busy: {answer.text}")
        return answer

    async def _running(self) -> dict[str, Report]:
        document = await self._http.get("/api/ps")
        return {
            entry["name"]: Report("ready", int(entry.get("size_vram") or entry.get("size") or 0))
            for entry in document.get("models") or []
        }
