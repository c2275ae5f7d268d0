"""TensorFlow Serving: status over REST, loading by replacing the whole list of models over gRPC.

``HandleReloadConfigRequest`` has replacement semantics: what it does not name is unloaded. So there is one
writer, this one, which keeps the complete list and sends it whole; calls never overlap. Models that were
served at the start and are not in the configuration are lost with the first change, which is why only
configured models (with their base path) are managed. Field numbers: `model_management.proto` and
`model_server_config.proto` of TensorFlow Serving.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError, poll
from proxy.loading.control.protobuf import decode, encode, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.loading.control.base import ControlHttp
    from proxy.loading.control.grpc_call import GrpcClient

__all__ = ("TfServingControl",)

_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_OK = 0


class TfServingControl:
    """`http` is the REST port, `grpc` the gRPC port; `paths` maps models to their base paths."""

    protocol = "tf-serving"
    can_unload = True
    can_cancel = False

    def __init__(self, http: ControlHttp, grpc: GrpcClient, paths: Mapping[str, str]) -> None:
        self._http = http
        self._grpc = grpc
        self._paths = paths
        self._served: set[str] = set()
        self._turn = asyncio.Lock()

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """The state of every configured model."""
        reports = {name: await self._report(name) for name in self._paths}
        self._served |= {name for name, report in reports.items() if report.state in {"ready", "loading"}}
        return reports

    async def load(self, model: str) -> int:
        """Add the model to the list and wait until it is available."""
        if model not in self._paths:
            raise ControlError("missing", f"loading.models.{model}.path is needed")
        await self._serve(self._served | {model})

        async def is_up() -> bool:
            report = await self._report(model)
            if report.state == "failed":
                raise ControlError("refused", report.detail)
            return report.state == "ready"

        await poll(is_up)
        return 0

    async def unload(self, model: str) -> None:
        """Take the model off the list and wait until it is gone."""
        await self._serve(self._served - {model})

        async def is_gone() -> bool:
            return (await self._report(model)).state in {"unloaded", "failed"}

        await poll(is_gone)

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """A servable that is not there."""
        return status == 404 and b"Servable not found" in body

    async def _serve(self, models: set[str]) -> None:
        async with self._turn:
            configs = [
                (1, encode((1, name), (2, self._paths[name]), (4, "tensorflow"))) for name in sorted(models)
            ]
            answer = decode(await self._grpc.ask(_RELOAD, encode((1, encode((1, encode(*configs)))))))
            status = answer.get(1, [b""])[-1]
            fields = decode(status) if isinstance(status, bytes) else {}
            if fields.get(1, [_OK])[-1] != _OK:
                raise ControlError("refused", text(fields, 2))
            self._served = models

    async def _report(self, model: str) -> Report:
        answer = await self._http.ask("GET", f"/v1/models/{quote(model, safe='')}")
        if answer.status == 404:
            return Report("unloaded")
        if not answer.is_ok:
            raise answer.failure()
        versions: list[dict[str, Any]] = answer.json().get("model_version_status") or []
        states = {str(version.get("state")) for version in versions}
        if "AVAILABLE" in states:
            return Report("ready")
        errors = [
            v["status"].get("error_message", "")
            for v in versions
            if v.get("status", {}).get("error_code") not in {None, "OK"}
        ]
        if errors:
            return Report("failed", detail=str(errors[0]))
        return Report("loading" if states & {"START", "LOADING"} else "unloaded")
