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
    if "model_repository" in str(await _json(http, "/v2")):
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


async def _json(http: ControlHttp, path: str) -> Any:  # noqa: ANN401 - whatever the backend sent
    answer = await http.ask("GET", path)
    if not answer.is_ok:
        return None
    try:
        return answer.json()
    except ControlError:
        return None
