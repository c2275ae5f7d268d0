"""vLLM: LoRA adapters are loaded and unloaded, the base model is woken and put to sleep.

A model with a path in the configuration is an adapter (needs ``VLLM_ALLOW_RUNTIME_LORA_UPDATING``). The
server's own model sleeps at level 1, its weights in host memory, when it is unloaded (needs
``--enable-sleep-mode`` and the development endpoints). Sleeping aborts what is in flight, which is why only
idle models are ever unloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError, poll

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.loading.control.base import ControlHttp

__all__ = ("VllmControl",)


class VllmControl:
    """`http` is the server's own port; `adapters` maps LoRA names to their paths."""

    protocol = "vllm"
    can_unload = True
    can_cancel = False

    def __init__(self, http: ControlHttp, adapters: Mapping[str, str]) -> None:
        self._http = http
        self._adapters = adapters

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """The served models, asleep or awake, and the adapters that could be loaded."""
        document = await self._http.get("/v1/models")
        base = Report("unloaded" if await self._is_asleep() else "ready")
        reports = {name: Report("unloaded") for name in self._adapters}
        for entry in document.get("data") or []:
            reports[entry["id"]] = Report("ready") if entry.get("parent") else base
        return reports

    async def load(self, model: str) -> int:
        """Load an adapter, or wake the base model."""
        if model in self._adapters:
            body = {"lora_name": model, "lora_path": self._adapters[model]}
            answer = await self._http.ask("POST", "/v1/load_lora_adapter", body)
            if not answer.is_ok and b"already been loaded" not in answer.body:
                raise answer.failure()
            return 0
        answer = await self._http.ask("POST", "/wake_up")
        if not answer.is_ok:
            raise answer.failure()

        async def is_awake() -> bool:
            return not await self._is_asleep()

        await poll(is_awake)
        return 0

    async def unload(self, model: str) -> None:
        """Unload an adapter, or put the base model to sleep."""
        if model in self._adapters:
            answer = await self._http.ask("POST", "/v1/unload_lora_adapter", {"lora_name": model})
            if not answer.is_ok and answer.status != 404:
                raise answer.failure()
            return
        answer = await self._http.ask("POST", "/sleep?level=1")
        if answer.status == 404:
            raise ControlError("refused", "the server runs without --enable-sleep-mode")
        if not answer.is_ok:
            raise answer.failure()
        await poll(self._is_asleep)

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """An adapter that is not loaded is a model that does not exist."""
        return status == 404 and b"does not exist" in body

    async def _is_asleep(self) -> bool:
        answer = await self._http.ask("GET", "/is_sleeping")
        return answer.is_ok and bool(answer.json().get("is_sleeping"))
