"""The llama.cpp server in router mode: loads are spawned at once and end when the listing says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError, poll

if TYPE_CHECKING:
    from proxy.loading.control.base import ControlHttp

__all__ = ("LlamaCppControl",)


class LlamaCppControl:
    """`http` is the router's own port."""

    protocol = "llamacpp"
    can_unload = True
    can_cancel = True  # unloading a model that is being loaded kills its process

    def __init__(self, http: ControlHttp) -> None:
        self._http = http

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """Every model that the router knows."""
        document = await self._http.get("/models")
        return {entry["id"]: _report(entry.get("status") or {}) for entry in document.get("data") or []}

    async def load(self, model: str) -> int:
        """Start the load and watch it."""
        answer = await self._http.ask("POST", "/models/load", {"model": model})
        if answer.status == 500 and b"limit reached" in answer.body:
            raise ControlError("memory", answer.text)
        if not answer.is_ok and not (answer.status == 400 and b"already" in answer.body):
            raise answer.failure()

        async def is_up() -> bool:
            report = (await self.listing(())).get(model, Report("unknown"))
            if report.state in {"failed", "unknown"}:
                raise ControlError("refused", report.detail or "the router no longer lists it")
            return report.state == "ready"

        await poll(is_up)
        return 0

    async def unload(self, model: str) -> None:
        """Stop the model's process and wait until it is gone."""
        answer = await self._http.ask("POST", "/models/unload", {"model": model})
        if not answer.is_ok and answer.status not in {400, 404}:
            raise answer.failure()

        async def is_gone() -> bool:
            return (await self.listing(())).get(model, Report("unloaded")).state in {"unloaded", "failed"}

        await poll(is_gone)

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """A router that does not load by itself says so."""
        return status in {400, 503} and (
            b"not loaded" in body or b"not running" in body or b"Loading model" in body
        )


def _report(status: dict[str, object]) -> Report:
    if status.get("failed"):
        return Report("failed", detail=f"exit code {status.get('exit_code')}")
    match status.get("value"):
        case "loaded" | "sleeping":
            return Report("ready")
        case "loading" | "downloading":
            return Report("loading")
        case _:
            return Report("unloaded")
