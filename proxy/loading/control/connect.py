"""From what the configuration says to the control of a running backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    from collections.abc import Awaitable, Callable

    import aiohttp

    from proxy.exchange import Upstream
    from proxy.loading.control.base import Control
    from proxy.loading.policy import LoadingPolicy

__all__ = ("Backend", "connect")


class Backend(NamedTuple):
    """One server of the managed upstream: its control URL, a session that reaches it, its gRPC port if
    known."""

    url: str
    session: aiohttp.ClientSession
    grpc: Upstream | None = None


async def connect(
    policy: LoadingPolicy, backends: tuple[Backend, ...], warm: Callable[[str], Awaitable[None]]
) -> Control | None:
    """The control of all `backends`; None when they have none. ControlError while nobody answers.

    `warm` sends a model's warm-up request.
    """
    https = [ControlHttp(backend.session, policy.control.url or backend.url) for backend in backends]
    named = policy.control.protocol
    protocol = await detect(https[0]) if named == "auto" else named
    if protocol == "none":
        return None
    pairs = zip(https, backends, strict=True)
    controls = [_one(protocol, http, backend.grpc, policy, warm) for http, backend in pairs]
    return controls[0] if len(controls) == 1 else FanOut(controls)


def _one(
    protocol: str,
    http: ControlHttp,
    grpc: Upstream | None,
    policy: LoadingPolicy,
    warm: Callable[[str], Awaitable[None]],
) -> Control:
    paths = {name: model.path for name, model in policy.models.items() if model.path}
    if protocol == "tf-serving":
        if grpc is None:
            raise ControlError("refused", "TensorFlow Serving is controlled over gRPC: name its grpc port")
        return TfServingControl(http, GrpcClient(grpc), paths)
    if protocol == "open-inference" and grpc is not None:
        return OpenInferenceGrpcControl(GrpcClient(grpc))
    if protocol == "replay":
        return ReplayControl(warm)
    makers: dict[str, Callable[[], Control]] = {
        "open-inference": lambda: OpenInferenceControl(http),
        "torchserve": lambda: TorchServeControl(http, paths),
        "ollama": lambda: OllamaControl(http),
        "llamacpp": lambda: LlamaCppControl(http),
        "vllm": lambda: VllmControl(http, paths),
    }
    return makers[protocol]()
