"""A whole proxy before a grpcio server that infers, with clients by gRPC and by REST.

The proxy is made by its composition root from YAML, in the test's own loop. The server computes ``2 x`` of
whatever rows it gets, raw or typed as they came, refuses what it is told to, and counts the calls.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import aiohttp
import grpc
from grpc import aio

from proxy.assembly import UpstreamComponent
from tests.integration.grpc.service import UNLIMITED, running
from tests.support.inference_messages import Proto, inference
from tests.support.waiting import until
from tests.support.whole import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from proxy.app import App
    from tests.integration.grpc.service import Context

__all__ = (
    "CONFIG",
    "INFER",
    "POISON",
    "Details",
    "Model",
    "Stage",
    "T",
    "asked",
    "begin",
    "blocked",
    "fill",
    "metrics",
    "output_of",
    "queued",
    "settled",
    "staged",
    "values_of",
    "waiting",
)


T = TypeVar("T")
INFER = "/inference.GRPCInferenceService/ModelInfer"
POISON = -13.0
CONFIG = """version: 1
server:
  http: {{listen: "127.0.0.1:0"}}
  grpc: {{listen: "127.0.0.1:0"}}
  admin: {{listen: "127.0.0.1:0"}}
upstreams:
  model: {{protocol: open-inference, grpc: ["127.0.0.1:{port}"], pool: {{grpc: {{min: 1, max: 1}}}}}}
models:
  alone: {{batch: {{mode: "off"}}}}
observe: {{access_log: {{format: "off"}}}}
"""


class Details(Protocol):
    method: str


class Model(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Answers inference and metadata; `sizes` are the rows of each inference call, in the order of arrival."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.time_left: list[float | None] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.cancelled = 0

    def service(self, details: Details) -> object:
        method: Callable[..., object] | None = {
            "ModelInfer": self.infer,
            "ServerReady": self.ready,
            "ServerLive": self.ready,
            "ModelReady": self.ready,
            "ModelMetadata": self.describe,
            "ModelConfig": self.configuration,
            "RepositoryModelLoad": self.load,
        }.get(details.method.rpartition("/")[2])
        return None if method is None else grpc.unary_unary_rpc_method_handler(method)

    async def ready(self, _request: bytes, _context: Context) -> bytes:
        return b"\x08\x01"

    async def describe(self, request: bytes, _context: Context) -> bytes:
        name = inference.ModelMetadataRequest.FromString(request).name
        message: bytes = inference.ModelMetadataResponse(name=name, platform="p").SerializeToString()
        return message

    async def configuration(self, request: bytes, _context: Context) -> bytes:
        name = inference.ModelConfigRequest.FromString(request).name
        config = inference.ModelConfig(name=name, max_batch_size=8)
        message: bytes = inference.ModelConfigResponse(config=config).SerializeToString()
        return message

    async def load(self, request: bytes, context: Context) -> bytes:
        if b"missing" in request:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return b""

    async def infer(self, message: bytes, context: Context) -> bytes:
        request = inference.ModelInferRequest.FromString(message)
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_left.append(context.time_remaining())
        self.sizes.append(request.inputs[0].shape[0])
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        values = values_of(request.inputs[0], request.raw_input_contents)
        if POISON in values:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad luck")
        if request.model_name == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        answer = inference.ModelInferResponse(model_name=request.model_name, id=request.id or "random")
        made = answer.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        fill(
            made,
            answer.raw_output_contents,
            [2 * value for value in values],
            is_raw=bool(request.raw_input_contents),
        )
        body: bytes = answer.SerializeToString()
        return body


def values_of(tensor: Proto, raw: Proto) -> list[float]:
    if not raw:
        return list(tensor.contents.fp32_contents)
    return list(struct.unpack(f"<{len(raw[0]) // 4}f", raw[0]))


def fill(tensor: Proto, raw: Proto, values: list[float], *, is_raw: bool) -> None:
    if is_raw:
        raw.append(struct.pack(f"<{len(values)}f", *values))
    else:
        tensor.contents.fp32_contents.extend(values)


@dataclass
class Stage:
    """The server, the proxy before it, a gRPC channel and the URL of its REST side."""

    model: Model
    app: App
    channel: aio.Channel
    direct: aio.Channel
    url: str

    async def infer(self, *values: float, **more: Proto) -> Proto:
        return inference.ModelInferResponse.FromString(
            await self.channel.unary_unary(INFER)(asked(*values, **more))
        )


def asked(*values: float, model: str = "m", ident: str = "", is_raw: bool = True) -> bytes:
    request = inference.ModelInferRequest(model_name=model, id=ident)
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[len(values), 1])
    fill(tensor, request.raw_input_contents, list(values), is_raw=is_raw)
    message: bytes = request.SerializeToString()
    return message


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """The server and the proxy before it, running."""
    model = Model()
    async with running(model) as (_server, port), serving(CONFIG.format(port=port)) as app:
        assert app.grpc is not None
        async with (
            aio.insecure_channel(app.grpc.address, options=UNLIMITED) as channel,
            aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as direct,
        ):
            await channel.channel_ready()
            yield Stage(model, app, channel, direct, app.http.address)


def begin(work: Awaitable[T]) -> asyncio.Task[T]:
    async def result() -> T:
        return await work

    return asyncio.get_running_loop().create_task(result())


async def blocked(stage: Stage, model: str = "m") -> asyncio.Task[Proto]:
    """Keep the backend busy with one call, so that the next ones wait for each other."""
    stage.model.is_open.clear()
    task = asyncio.get_running_loop().create_task(stage.infer(0.0, model=model))
    await until(lambda: bool(stage.model.sizes))
    return task


def queued(stage: Stage) -> int:
    """How many calls wait in lanes."""
    (upstream,) = [part for part in stage.app._components if isinstance(part, UpstreamComponent)]
    return sum(calls for _, calls in upstream._batcher.waiting())


async def waiting(stage: Stage, count: int) -> None:
    """Until so many calls wait in a lane."""
    await until(lambda: queued(stage) == count)


async def metrics(stage: Stage) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stage.app.admin.address}/metrics") as answer,
    ):
        return await answer.text()


async def settled(task: asyncio.Task[Proto]) -> Proto:
    """Its result, or the gRPC error that it ended with."""
    try:
        return await task
    except aio.AioRpcError as error:
        return error


def output_of(answer: bytes) -> tuple[Proto, Proto]:
    found = inference.ModelInferResponse.FromString(answer)
    return found.outputs[0], found.raw_output_contents
