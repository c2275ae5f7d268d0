"""Which dialect a backend speaks, found out by asking; what the configuration names is never asked.

Each question is one that only its dialect answers in this way, and none of them changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.loading.control.base import ControlError

if TYPE_CHECKING:
    from proxy.loading.control.base import ControlHttp

__all__ = ("detect",)


async def detect(http: ControlHttp) -> str:
    """The protocol's name, or ``none``; ControlError when nobody answers at all."""
    server = await _json(http, "/v2")
    if isinstance(server, dict) and "name" in server and await _has_repository(http, server):
        return "open-inference"
    if isinstance(await _json(http, "/api/version"), dict) and isinstance(await _json(http, "/api/ps"), dict):
        return "ollama"
    props = await _json(http, "/props")
    if isinstance(props, dict) and props.get("role") == "router":
        return "llamacpp"
    served = await _json(http, "/v1/models")
    entries = served.get("data") if isinstance(served, dict) else None
    if isinstance(entries, list) and any(entry.get("owned_by") == "vllm" for entry in entries):
        return "vllm"
    models = await _json(http, "/models?limit=1")
    if isinstance(models, dict) and isinstance(models.get("models"), list):
        return "torchserve"
    return "none"


async def _has_repository(http: ControlHttp, server: dict[str, Any]) -> bool:
    """Triton and KServe name the extension; MLServer names none, and has it."""
    if "model_repository" in str(server.get("extensions")):
        return True
    return (await http.ask("POST", "/v2/repository/index", {})).is_ok


async def _json(http: ControlHttp, path: str) -> Any:  # noqa: ANN401 - whatever the backend sent
    answer = await http.ask("GET", path)
    if answer.status >= 500:  # still starting, perhaps: no verdict
        raise ControlError("unreachable", f"{path}: {answer.status} {answer.text}")
    if not answer.is_ok:
        return None
    try:
        return answer.json()
    except ControlError:
        return None
