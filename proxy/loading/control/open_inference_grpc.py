"""Open Inference repository over gRPC: what Triton should be controlled by.

Triton serves an HTTP load on one of its few HTTP workers, which then answers nothing else until the model is
loaded; its gRPC port does not have that trouble. MLServer offers the same messages under another service
name. KServe's Python server has no index there and other field numbers: it is controlled over REST. An error
is believed only when the model does not say that it is ready. Field numbers: `grpc_service.proto` of Triton,
`model_repository.proto` of MLServer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.control.base import ControlError, poll
from proxy.loading.control.grpc_call import GrpcError
from proxy.loading.control.open_inference import is_not_ready, merge_index
from proxy.loading.control.protobuf import decode, encode, text

if TYPE_CHECKING:
    from proxy.loading.actions import Report
    from proxy.loading.control.grpc_call import GrpcClient

__all__ = ("OpenInferenceGrpcControl",)

_INFERENCE = "/inference.GRPCInferenceService/"
_SERVICES = (_INFERENCE, "/inference.model_repository.ModelRepositoryService/")
_UNIMPLEMENTED = 12


class NoRepository(ControlError):
    """Neither service is there."""


class OpenInferenceGrpcControl:
    """`grpc` is the server's gRPC port."""

    protocol = "open-inference"
    can_unload = True
    can_cancel = False

    def __init__(self, grpc: GrpcClient) -> None:
        self._grpc = grpc
        self._service = ""

    async def has_repository(self) -> bool:
        """Whether the server can be controlled in this way; ControlError while nobody answers."""
        try:
            await self._ask("RepositoryIndex", b"")
        except GrpcError as error:
            if error.kind == "unreachable":
                raise
            return True  # it has one, and refuses: its own words will say why
        except NoRepository:
            return False
        return True

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """The repository's index."""
        answer = decode(await self._ask("RepositoryIndex", b""))
        entries = [decode(model) for model in answer.get(1, []) if isinstance(model, bytes)]
        return merge_index([{"name": text(e, 1), "state": text(e, 3), "reason": text(e, 4)} for e in entries])

    async def load(self, model: str) -> int:
        """Load, and return once the model itself says that it is ready."""
        if await self._is_ready(model):
            return 0
        try:
            await self._ask("RepositoryModelLoad", encode((2, model)))
        except GrpcError:
            if not await self._is_ready(model):
                raise
        await poll(lambda: self._is_ready(model))
        return 0

    async def unload(self, model: str) -> None:
        """Unload; a model that was never loaded is an error to some, and none to us."""
        try:
            await self._ask("RepositoryModelUnload", encode((2, model)))
        except GrpcError:
            if await self._is_ready(model):
                raise

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """As over REST: what clients see does not depend on how models are controlled."""
        return is_not_ready(status, body)

    async def _is_ready(self, model: str) -> bool:
        try:
            answer = decode(await self._grpc.ask(f"{_INFERENCE}ModelReady", encode((1, model))))
        except GrpcError:
            return False
        return answer.get(1) == [1]

    async def _ask(self, method: str, message: bytes) -> bytes:
        """Ask the service that this server has; which one is found out once."""
        for service in (self._service,) if self._service else _SERVICES:
            try:
                answer = await self._grpc.ask(service + method, message)
            except GrpcError as error:
                if error.code != _UNIMPLEMENTED:
                    self._service = service
                    raise
            else:
                self._service = service
                return answer
        raise NoRepository("refused", "the server has no repository service")
