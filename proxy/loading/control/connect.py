"""From what the configuration says to the control of a running backend.

A `Connector` is owned by the loader. It owns one `ClientSession` for each endpoint of the managed upstream,
opened with the first call and closed by `close`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import aiohttp

from proxy.loading.control.base import ControlError, ControlHttp
from proxy.loading.control.detect import detect
from proxy.loading.control.fan_out import FanOut
from proxy.loading.control.grpc_call import GrpcClient
from proxy.loading.control.llamacpp import LlamaCppControl
from proxy.loading.control.ollama import OllamaControl
from proxy.loading.control.open_inference import OpenInferenceControl
from proxy.loading.control.open_inference_grpc import OpenInferenceGrpcControl
from proxy.loading.control.replay import ReplayControl
from proxy.loading.control.tf_serving import TfServingControl
from proxy.loading.control.torchserve import TorchServeControl
from proxy.loading.control.vllm import VllmControl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.exchange import Upstream
    from proxy.loading.control.base import Control
    from proxy.loading.policy import LoadingPolicy

__all__ = ("Connector", "Place")

_CONNECT_S = 5.0


class Place(Protocol):
    """Where one backend listens: a Unix socket if `path` is set, else `url`."""

    @property
    def url(self) -> str:
        """Base URL."""

    @property
    def path(self) -> str:
        """Socket path, or empty."""


class Connector:
    """Reaches the backends at `places`; `grpc` is how their gRPC port is reached, if they have one."""

    def __init__(self, policy: LoadingPolicy, places: Sequence[Place], grpc: Upstream | None = None) -> None:
        self._policy = policy
        self._places = tuple(places)
        self._grpc = grpc
        self._sessions: list[aiohttp.ClientSession] = []
        self._https: list[ControlHttp] = []

    async def connect(self) -> Control | None:
        """The control of all backends; None when they have none. ControlError while nobody answers."""
        https = self._open(self._policy.control.url)
        named = self._policy.control.protocol
        if not https:
            if self._grpc is None or named not in {"auto", "open-inference"}:
                return None
            return OpenInferenceGrpcControl(GrpcClient(self._grpc))
        protocol = await detect(https[0]) if named == "auto" else named
        if protocol == "none":
            return None
        if protocol == "open-inference" and self._grpc is not None:
            control = OpenInferenceGrpcControl(GrpcClient(self._grpc))
            if await control.has_repository():
                return control
        controls = [self._control(protocol, http) for http in https]
        return controls[0] if len(controls) == 1 else FanOut(controls)

    async def warm(self, model: str) -> None:
        """Send the model's warm-up request to every backend, if it has one; ControlError when one fails."""
        settings = self._policy.models.get(model)
        if settings is None or settings.warmup is None:
            return
        warmup = settings.warmup
        target = warmup.path.replace("{model}", quote(model, safe=""))
        for http in self._open(""):
            try:
                async with asyncio.timeout(warmup.timeout):
                    answer = await http.send(warmup.method, target, warmup.body.encode() or None)
            except TimeoutError as error:
                raise ControlError("timeout", f"no answer to the warm-up in {warmup.timeout:g} s") from error
            if not answer.is_ok:
                raise answer.failure()

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions:
            await session.close()

    def _open(self, url: str) -> list[ControlHttp]:
        """One client for each backend; all of them at `url` when it is given."""
        if not self._sessions:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
            for place in self._places:
                connector = aiohttp.UnixConnector(place.path) if place.path else None
                self._sessions.append(aiohttp.ClientSession(connector=connector, timeout=timeout))
        bases = [url or ("http://localhost" if place.path else place.url) for place in self._places]
        return [ControlHttp(session, base) for session, base in zip(self._sessions, bases, strict=True)]

    def _control(self, protocol: str, http: ControlHttp) -> Control:
        paths = {name: model.path for name, model in self._policy.models.items() if model.path}
        if protocol == "tf-serving":
            if self._grpc is None:
                raise ControlError("refused", "TensorFlow Serving is controlled over gRPC: name its port")
            return TfServingControl(http, GrpcClient(self._grpc), paths)
        makers: dict[str, Callable[[], Control]] = {
            "open-inference": lambda: OpenInferenceControl(http),
            "torchserve": lambda: TorchServeControl(http, paths),
            "ollama": lambda: OllamaControl(http),
            "llamacpp": lambda: LlamaCppControl(http),
            "vllm": lambda: VllmControl(http, paths),
            "replay": lambda: ReplayControl(self.warm),
        }
        return makers[protocol]()
