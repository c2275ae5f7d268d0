"""TorchServe's management port.

A registered model with no workers is unloaded: it costs no memory, and asking for it is 503 "has no worker".
Loading is scaling it to one worker; a model that is not registered is registered first, when the
configuration says from where. The KServe-style readiness is useless here: it is true as soon as a worker
object exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError, poll

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.loading.control.base import ControlHttp

__all__ = ("TorchServeControl",)


class TorchServeControl:
    """`http` is the management port (8081); `archives` maps models to their archive URL or file name."""

    protocol = "torchserve"
    can_unload = True
    can_cancel = False

    def __init__(self, http: ControlHttp, archives: Mapping[str, str]) -> None:
        self._http = http
        self._archives = archives

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """Registered models by their workers, page by page, and `names` that could be registered."""
        reports = {name: Report("unloaded") for name in names if name in self._archives}
        page = ""
        while True:
            document = await self._http.get(f"/models?limit=100{page}")
            for entry in document.get("models", []):
                reports[entry["modelName"]] = await self._report(entry["modelName"])
            token = document.get("nextPageToken")
            if not token:
                return reports
            page = f"&next_page_token={quote(str(token))}"

    async def load(self, model: str) -> int:
        """Scale to one worker and wait until it is up; its memory use is the model's size."""
        answer = await self._http.ask("PUT", f"/models/{quote(model, safe='')}?min_worker=1&synchronous=true")
        if answer.status == 404 and model in self._archives:
            query = urlencode(
                {
                    "url": self._archives[model],
                    "model_name": model,
                    "initial_workers": 1,
                    "synchronous": "true",
                }
            )
            answer = await self._http.ask("POST", f"/models?{query}")
        if not answer.is_ok and answer.status != 409:
            raise answer.failure()
        size = 0

        async def is_up() -> bool:
            nonlocal size
            report = await self._report(model)
            size = report.size
            return report.state == "ready"

        await poll(is_up)
        return size

    async def unload(self, model: str) -> None:
        """Scale to no worker."""
        path = f"/models/{quote(model, safe='')}?min_worker=0&max_worker=0&synchronous=true"
        answer = await self._http.ask("PUT", path)
        if not answer.is_ok and answer.status != 404:
            raise answer.failure()

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """A model without workers, or one that was never registered."""
        return (status == 503 and b"no worker" in body.lower()) or (
            status == 404 and b"Model not found" in body
        )

    async def _report(self, model: str) -> Report:
        document = await self._http.get(f"/models/{quote(model, safe='')}")
        try:
            workers: list[dict[str, Any]] = document[0]["workers"]
        except (KeyError, IndexError, TypeError) as error:
            raise ControlError("refused", f"unexpected description of {model}") from error
        ready = [worker for worker in workers if worker.get("status") == "READY"]
        if ready:
            return Report("ready", sum(int(worker.get("memoryUsage", 0)) for worker in ready))
        return Report("loading" if workers else "unloaded")
