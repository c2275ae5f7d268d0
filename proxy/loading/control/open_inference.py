"""Open Inference repository over REST: Triton, MLServer and KServe's Python server.

They share paths and differ in their words. A load of a loaded model is a *reload* (MLServer holds both copies
for a while), so readiness is asked first. KServe has no index and a `load` that may do nothing, so success is
believed only when the model says that it is ready. A model that is still loading is 404 "no available
versions" to Triton's inference path, 400 "not ready yet" to MLServer's, 503 to KServe's. Triton forbids all
of it unless it runs with ``--model-control-mode=explicit``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from proxy.loading.actions import Report
from proxy.loading.control.base import Answer, ControlError, poll

if TYPE_CHECKING:
    from proxy.loading.control.base import ControlHttp

__all__ = ("OpenInferenceControl", "is_not_ready", "merge_index")

_NOT_READY = (b"not ready", b"no available versions", b"not found", b"not loaded", b"is not available")


class OpenInferenceControl:
    """`http` is the server's own REST port."""

    protocol = "open-inference"
    can_unload = True
    can_cancel = False  # the server finishes a load whose caller has left

    def __init__(self, http: ControlHttp) -> None:
        self._http = http

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """The repository's index; where there is none, the readiness of each of `names`."""
        answer = await self._http.ask("POST", "/v2/repository/index", {})
        if answer.is_ok:
            return merge_index(answer.json())
        if answer.status not in {404, 405}:
            raise answer.failure()
        return {name: Report("ready" if await self._is_ready(name) else "unloaded") for name in names}

    async def load(self, model: str) -> int:
        """Load, and return once the model itself says that it is ready."""
        if await self._is_ready(model):
            return 0
        answer = await self._http.ask("POST", f"/v2/repository/models/{quote(model, safe='')}/load", {})
        if not answer.is_ok:
            raise _failure(answer)
        await poll(lambda: self._is_ready(model))
        return 0

    async def unload(self, model: str) -> None:
        """Unload; a model that was never loaded is an error to some, and none to us."""
        answer = await self._http.ask("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", {})
        if not answer.is_ok and await self._is_ready(model):
            raise _failure(answer)

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """404, 400 or 503 in the words of one of the three."""
        return is_not_ready(status, body)

    async def _is_ready(self, model: str) -> bool:
        answer = await self._http.ask("GET", f"/v2/models/{quote(model, safe='')}/ready")
        return answer.is_ok


def is_not_ready(status: int, body: bytes) -> bool:
    """Whether an inference answer says that the model is not loaded."""
    return status in {400, 404, 503} and any(words in body.lower() for words in _NOT_READY)


def merge_index(entries: Any) -> dict[str, Report]:  # noqa: ANN401 - the backend's JSON
    """One report for each model of an index that lists versions: the most ready version counts."""
    reports: dict[str, Report] = {}
    if not isinstance(entries, list):
        raise ControlError("refused", "the repository index is no list")
    for entry in entries:
        report = _report(str(entry.get("state", "")), str(entry.get("reason", "")))
        before = reports.get(entry["name"])
        if before is None or _ORDER.index(report.state) < _ORDER.index(before.state):
            reports[entry["name"]] = report
    return reports


_ORDER = ("ready", "loading", "unloading", "failed", "unloaded")


def _report(state: str, reason: str) -> Report:
    match state.upper().removeprefix("STATE."):  # as MLServer writes it over gRPC
        case "READY":
            return Report("ready")
        case "LOADING" | "UNKNOWN":  # MLServer's word for a model whose load has begun
            return Report("loading")
        case "UNLOADING":
            return Report("unloading")
        case _ if reason and reason != "unloaded":
            return Report("failed", detail=reason)
        case _:
            return Report("unloaded")


def _failure(answer: Answer) -> ControlError:
    if answer.status == 503 and b"not allowed" in answer.body:
        return ControlError("refused", "the server must run with --model-control-mode=explicit")
    if answer.status == 400 and b"not found" in answer.body.lower():
        return ControlError("missing", answer.text)
    return answer.failure()
