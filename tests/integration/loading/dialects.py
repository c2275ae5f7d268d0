"""Model servers that speak one control dialect each, as far as control goes, errors included."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, web

from proxy.loading.control.base import ControlHttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Answer = tuple[int, Any]
Body = dict[str, Any]


class Server:
    """Remembers what it was asked; a subclass answers. `loads_after` polls it takes until a load is done."""

    def __init__(self, *names: str) -> None:
        self.states: dict[str, str] = dict.fromkeys(names, "unloaded")
        self.asked: list[str] = []
        self.fail: dict[str, Answer] = {}
        self.loads_after = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(f"{request.method} {request.path_qs}")
        path = f"{request.method} {request.path}"
        status, document = self.fail.get(path) or self.answer(
            request.method, request.path, dict(request.query), json.loads(body) if body else {}
        )
        if isinstance(document, str):
            return web.Response(status=status, text=document)
        return web.json_response(document, status=status)

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:
        raise NotImplementedError

    def begin(self, name: str) -> None:
        """A load begins; it is done after so many looks."""
        self.states[name] = "loading" if self.loads_after else "ready"

    def look(self, name: str) -> str:
        """The state of a model, which looking at it may change."""
        if self.states.get(name) == "loading":
            self.loads_after -= 1
            if self.loads_after <= 0:
                self.states[name] = "ready"
        return self.states.get(name, "")


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[tuple[ControlHttp, str]]:
    """`server` on a free port: a control client for it, and its URL."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with ClientSession() as session:
            yield ControlHttp(session, url), url
    finally:
        await runner.cleanup()


@asynccontextmanager
async def nobody() -> AsyncIterator[ControlHttp]:
    """A control client for a port that is closed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    async with ClientSession() as session:
        yield ControlHttp(session, f"http://127.0.0.1:{port}")


class Triton(Server):
    """Triton, MLServer and KServe, by their `accent`."""

    def __init__(self, *names: str, accent: str = "triton") -> None:
        super().__init__(*names)
        self.accent = accent

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:  # noqa: PLR0911  one branch for each endpoint
        parts = path.strip("/").split("/")
        match parts:
            case ["v2"]:
                return 200, {"name": self.accent, "extensions": ["model_repository"]}
            case ["v2", "repository", "index"]:
                return (404, {"detail": "Not Found"}) if self.accent == "kserve" else (200, self.index())
            case ["v2", "models", name, "ready"]:
                return (200 if self.look(name) == "ready" else 400), ""
            case ["v2", "repository", "models", name, "load"]:
                if name not in self.states:
                    return 404, {"error": f"Model {name} not found"}
                self.begin(name)
                return 200, {}
            case ["v2", "repository", "models", name, "unload"]:
                if self.states.get(name) != "ready":
                    return 400, {"error": "never loaded"}
                self.states[name] = "unloaded"
                return 200, {}
        return 404, {}

    def index(self) -> list[dict[str, str]]:
        names = {"ready": "READY", "loading": "LOADING", "unloaded": "UNAVAILABLE", "failed": "UNAVAILABLE"}
        reasons = {"unloaded": "unloaded", "failed": "failed to load: bad weights"}
        if self.accent == "mlserver":
            names["loading"] = "UNKNOWN"
        return [
            {"name": name, "version": "1", "state": names[state], "reason": reasons.get(state, "")}
            for name, state in self.states.items()
        ]


class TorchServe(Server):
    """The management port; `registered` models have no workers until they are scaled."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.page = 2

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:
        parts = path.strip("/").split("/")
        match method, parts:
            case "GET", ["models"]:
                start = int(query.get("next_page_token", 0))
                names = list(self.states)[start : start + self.page]
                more = (
                    {"nextPageToken": str(start + self.page)} if start + self.page < len(self.states) else {}
                )
                return 200, {"models": [{"modelName": n, "modelUrl": f"{n}.mar"} for n in names]} | more
            case "POST", ["models"]:
                self.begin(query["model_name"])
                return 200, {"status": "registered"}
            case "GET", ["models", name] if name in self.states:
                return 200, [{"modelName": name, "workers": self.workers(name)}]
            case "PUT", ["models", name] if name in self.states:
                if query["min_worker"] == "0":
                    self.states[name] = "unloaded"
                elif self.states[name] != "ready":
                    self.begin(name)
                return (202 if self.loads_after else 200), {"status": "Processing worker updates..."}
        return 404, {"code": 404, "type": "ModelNotFoundException", "message": "Model not found"}

    def workers(self, name: str) -> list[dict[str, Any]]:
        match self.look(name):
            case "ready":
                return [{"id": "9000", "status": "READY", "memoryUsage": 5_000_000}]
            case "loading":
                return [{"id": "9000", "status": "UNLOADING", "memoryUsage": 0}]
            case _:
                return []


class Ollama(Server):
    """Models with memory; `embedders` refuse to generate; unloading takes `lingers` looks."""

    embedders: frozenset[str] = frozenset()
    lingers = 0

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:  # noqa: PLR0911  one branch for each endpoint
        match method, path:
            case "GET", "/api/version":
                return 200, {"version": "0.12"}
            case "GET", "/api/tags":
                return 200, {"models": [{"name": name} for name in self.states]}
            case "GET", "/api/ps":
                return 200, {"models": self.running()}
            case "POST", "/api/generate" if body["model"] in self.embedders:
                return 400, {"error": f'"{body["model"]}" does not support generate'}
            case "POST", "/api/generate" | "/api/embed":
                name = body["model"]
                if name not in self.states:
                    return 404, {"error": f"model '{name}' not found"}
                self.states[name] = "ready" if body["keep_alive"] else "leaving"
                return 200, {"done": True, "done_reason": "load"}
        return 404, "404 page not found"

    def running(self) -> list[dict[str, Any]]:
        for name, state in self.states.items():
            if state == "leaving":
                self.lingers -= 1
                if self.lingers < 0:
                    self.states[name] = "unloaded"
        resident = [name for name, state in self.states.items() if state in {"ready", "leaving"}]
        return [{"name": name, "size": 900, "size_vram": 800} for name in resident]


class LlamaCpp(Server):
    """The router."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:
        match method, path:
            case "GET", "/props":
                return 200, {"role": "router", "max_instances": 4}
            case "GET", "/models":
                return 200, {"data": [{"id": name, "status": self.status(name)} for name in self.states]}
            case "POST", "/models/load" if body["model"] in self.states:
                if self.states[body["model"]] == "ready":
                    return 400, {"error": {"message": "model is already running"}}
                self.begin(body["model"])
                return 200, {"success": True}
            case "POST", "/models/unload" if body["model"] in self.states:
                self.states[body["model"]] = "unloaded"
                return 200, {"success": True}
        return 404, {"error": {"message": "model not found"}}

    def status(self, name: str) -> dict[str, Any]:
        state = self.look(name)
        if state == "failed":
            return {"value": "unloaded", "failed": True, "exit_code": 137}
        return {"value": "loaded" if state == "ready" else state}


class Vllm(Server):
    """A base model that may sleep, and LoRA adapters."""

    base = "ready"

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:  # noqa: PLR0911, C901  one branch for each endpoint
        match method, path:
            case "GET", "/v1/models":
                adapters = [name for name, state in self.states.items() if state == "ready"]
                data: list[dict[str, Any]] = [{"id": "base", "owned_by": "vllm", "parent": None}]
                return 200, {
                    "data": data + [{"id": n, "owned_by": "vllm", "parent": "base"} for n in adapters]
                }
            case "GET", "/is_sleeping":
                if self.base == "waking":
                    self.base = "ready"
                    return 200, {"is_sleeping": True}
                return 200, {"is_sleeping": self.base != "ready"}
            case "POST", "/wake_up":
                self.base = "waking"
                return 200, ""
            case "POST", "/sleep":
                self.base = "asleep"
                return 200, ""
            case "POST", "/v1/load_lora_adapter":
                name = body["lora_name"]
                if self.states.get(name) == "ready":
                    return 400, {"message": f"The lora adapter '{name}' has already been loaded."}
                if name not in self.states:
                    return 404, {"message": "No adapter found for path"}
                self.states[name] = "ready"
                return 200, f"Success: LoRA adapter '{name}' added successfully."
            case "POST", "/v1/unload_lora_adapter":
                if self.states.get(body["lora_name"]) != "ready":
                    return 404, {"message": "not found"}
                self.states[body["lora_name"]] = "unloaded"
                return 200, "Success"
        return 404, {"detail": "Not Found"}


class TfServing(Server):
    """The REST side: model status."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Body) -> Answer:
        name = path.rsplit("/", 1)[-1]
        if name not in self.states:
            return 404, {"error": f"Could not find any versions of model {name}"}
        names = {"ready": "AVAILABLE", "loading": "LOADING", "unloaded": "END", "failed": "END"}
        state = self.look(name)
        code = "UNKNOWN" if state == "failed" else "OK"
        status = {"error_code": code, "error_message": "no variables" if state == "failed" else ""}
        return 200, {"model_version_status": [{"version": "1", "state": names[state], "status": status}]}
