"""The operator's view of the models: what is loaded and why, and loading, unloading and pinning by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.admin.server import Route, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web
    from aiohttp.typedefs import Handler

__all__ = ("ModelControl", "model_routes")


class ModelControl(Protocol):
    """What the endpoints need of a loader."""

    def is_managed(self, model: str) -> bool:
        """Whether anything is known of `model`."""

    def snapshot(self) -> object:
        """Everything about the models, as something msgspec can write."""

    def why(self, model: str) -> Sequence[object]:
        """The latest decisions about `model`, newest first."""

    def load(self, model: str) -> str:
        """Load it; why not, or empty."""

    def unload(self, model: str) -> str:
        """Unload it; why not, or empty."""

    def pin(self, model: str, *, is_pinned: bool) -> None:
        """Never evict it, or no longer never."""


def model_routes(models: ModelControl) -> tuple[Route, ...]:
    """``GET /models``, ``GET /models/{name}/why`` and the changes."""

    async def index(_request: web.Request) -> web.Response:
        return json_answer(200, models.snapshot())

    def named(handler: Callable[[str], web.Response]) -> Handler:
        """`handler` for the model that the path names, which must be a managed one."""

        async def handle(request: web.Request) -> web.Response:
            name = request.match_info["name"]
            if not models.is_managed(name):
                return json_answer(404, {"error": f"no model is named {name}"})
            return handler(name)

        return handle

    def why(name: str) -> web.Response:
        return json_answer(200, {"model": name, "decisions": models.why(name)})

    def load(name: str) -> web.Response:
        return _outcome(name, "loading", models.load(name))

    def unload(name: str) -> web.Response:
        return _outcome(name, "unloading", models.unload(name))

    def pin(name: str) -> web.Response:
        models.pin(name, is_pinned=True)
        return json_answer(200, {"model": name, "pinned": True})

    def unpin(name: str) -> web.Response:
        models.pin(name, is_pinned=False)
        return json_answer(200, {"model": name, "pinned": False})

    return (
        Route("GET", "/models", "every managed model, what is predicted and what was decided", index),
        Route(
            "GET", "/models/{name}/why", "the latest decisions about a model and their reasons", named(why)
        ),
        Route("POST", "/models/{name}/load", "load a model", named(load)),
        Route("POST", "/models/{name}/unload", "unload a model that is idle", named(unload)),
        Route("POST", "/models/{name}/pin", "never evict a model", named(pin)),
        Route("POST", "/models/{name}/unpin", "let a model be evicted again", named(unpin)),
    )


def _outcome(name: str, doing: str, why_not: str) -> web.Response:
    if why_not:
        return json_answer(409, {"model": name, "error": why_not})
    return json_answer(202, {"model": name, "state": doing})
