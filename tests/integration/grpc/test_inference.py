"""Inference calls through the whole proxy: a grpcio server behind it, clients by gRPC and by REST before it.

The proxy is made by its composition root from YAML, in the test's own loop. The server computes ``2 x`` of
whatever rows it gets, raw or typed as they came, refuses what it is told to, and counts the calls.
"""

from __future__ import annotations

import asyncio
import gc
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import aiohttp
import grpc
import pytest
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


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
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
    await until(lambda: bool(stage.model.sizes), 30)
    return task


@pytest.mark.parametrize("is_raw", [True, False])
async def test_calls_that_wait_for_each_other_travel_together(stage: Stage, is_raw: bool) -> None:
    first = await blocked(stage)
    tasks = [begin(stage.infer(float(n), ident=f"id-{n}", is_raw=is_raw)) for n in range(1, 9)]
    await waiting(stage, 8)
    stage.model.is_open.set()
    answers = await asyncio.gather(*tasks)
    await first
    assert stage.model.sizes == [1, 8]
    assert [answer.id for answer in answers] == [f"id-{n}" for n in range(1, 9)]
    assert [values_of(answer.outputs[0], answer.raw_output_contents) for answer in answers] == [
        [2.0 * n] for n in range(1, 9)
    ]


async def waiting(stage: Stage, count: int) -> None:
    """Until so many calls wait in a lane."""
    (upstream,) = [part for part in stage.app._components if isinstance(part, UpstreamComponent)]
    await until(lambda: sum(calls for _, calls in upstream._batcher.waiting()) == count, 30)


async def test_a_lone_call_is_forwarded_byte_for_byte(stage: Stage) -> None:
    message = asked(1.0, ident="mine") + b"\x9a\x06\x03new"
    answer = await stage.channel.unary_unary(INFER)(message)
    assert answer == await stage.direct.unary_unary(INFER)(message)


async def test_a_bad_call_fails_alone(stage: Stage) -> None:
    first = await blocked(stage)
    tasks = [begin(stage.infer(value)) for value in (1.0, POISON, 3.0, 4.0)]
    await waiting(stage, 4)
    stage.model.is_open.set()
    good, bad, *others = [await settled(task) for task in tasks]
    assert (bad.code(), bad.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "bad luck")
    assert [values_of(answer.outputs[0], answer.raw_output_contents) for answer in (good, *others)] == [
        [2.0],
        [6.0],
        [8.0],
    ]
    await first


async def test_the_message_selects_the_policy_and_the_label(stage: Stage) -> None:
    first = await blocked(stage, "alone")
    tasks = [begin(stage.infer(float(n), model="alone")) for n in range(3)]
    await until(lambda: len(stage.model.sizes) == 4)
    stage.model.is_open.set()
    await asyncio.gather(first, *tasks)
    assert stage.model.sizes == [1, 1, 1, 1]
    labels = 'model="alone",outcome="ok",protocol="grpc",route="open-inference/ModelInfer"'
    assert f"pillion_requests_total{{{labels}}} 4" in await metrics(stage)


async def test_what_heads_say_about_merging_is_read_once_for_a_kind_of_call(stage: Stage) -> None:
    for number in range(5):
        await stage.infer(float(number), ident=str(number))
    (upstream,) = [part for part in stage.app._components if isinstance(part, UpstreamComponent)]
    assert len(upstream._batcher._intake._origins) == 1


async def test_calls_that_have_ended_leave_nothing_to_the_garbage_collector(stage: Stage) -> None:
    await stage.infer(1.0, model="alone")
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for model in ("alone", "m"):
            for _ in range(3):
                await stage.infer(1.0, model=model)
        gc.collect()
        ours = {type(found) for found in gc.garbage if type(found).__module__.startswith("proxy.")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == set()


async def metrics(stage: Stage) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stage.app.admin.address}/metrics") as answer,
    ):
        return await answer.text()


async def test_one_credential_does_not_travel_with_another(stage: Stage) -> None:
    first = await blocked(stage)
    infer = stage.channel.unary_unary(INFER)
    tasks = [
        begin(infer(asked(1.0), metadata=(("authorization", f"Bearer {name}"),)))
        for name in ("ann", "bob", "ann")
    ]
    await waiting(stage, 3)
    stage.model.is_open.set()
    await asyncio.gather(first, *tasks)
    sent = [
        (size, found.get("authorization"))
        for size, found in zip(stage.model.sizes, stage.model.metadata, strict=True)
    ]
    assert sorted(sent[1:]) == [(1, "Bearer bob"), (2, "Bearer ann")]


async def test_the_latest_deadline_of_the_members_is_sent_and_each_is_cut_off_at_its_own(
    stage: Stage,
) -> None:
    first = await blocked(stage)
    infer = stage.channel.unary_unary(INFER)
    patient = begin(infer(asked(2.0), timeout=60))
    await waiting(stage, 1)
    hasty = begin(infer(asked(1.0), timeout=1.0))
    await waiting(stage, 2)
    with pytest.raises(aio.AioRpcError) as caught:
        await hasty
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    stage.model.is_open.set()
    await asyncio.gather(first, patient)
    left = stage.model.time_left[-1]
    assert left is not None
    assert 30 < left < 61


async def test_a_batch_is_given_up_when_every_member_has_left(stage: Stage) -> None:
    stage.model.is_open.clear()
    calls = [stage.channel.unary_unary(INFER)(asked(float(n))) for n in range(2)]
    tasks = [begin(call) for call in calls]
    await until(lambda: sum(stage.model.sizes) == 2)
    for call in calls:
        call.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: stage.model.cancelled == len(stage.model.sizes))


async def test_a_large_message_is_merged_too(stage: Stage) -> None:
    values = [float(n) for n in range(60_000)]
    answer = await stage.infer(*values)
    assert values_of(answer.outputs[0], answer.raw_output_contents) == [2 * value for value in values]


async def test_a_compressed_message_goes_through_alone(stage: Stage) -> None:
    message = asked(*[1.0] * 1000)
    answer = await stage.channel.unary_unary(INFER)(message, compression=grpc.Compression.Gzip)
    assert values_of(*output_of(answer)) == [2.0] * 1000
    assert 'why="compressed"' in await metrics(stage)


async def settled(task: asyncio.Task[Proto]) -> Proto:
    """Its result, or the gRPC error that it ended with."""
    try:
        return await task
    except aio.AioRpcError as error:
        return error


def output_of(answer: bytes) -> tuple[Proto, Proto]:
    found = inference.ModelInferResponse.FromString(answer)
    return found.outputs[0], found.raw_output_contents


async def test_a_call_with_two_messages_is_passed_through(stage: Stage) -> None:
    call = stage.channel.stream_unary(INFER)()
    await call.write(asked(1.0))
    await call.write(asked(2.0))
    await call.done_writing()
    assert values_of(*output_of(await call)) == [2.0]  # what grpcio's server makes of it
    assert 'why="streamed_body"' in await metrics(stage)


class TestRest:
    async def post(self, stage: Stage, *values: float, **more: object) -> tuple[int, object]:
        tensor = {"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}
        async with aiohttp.ClientSession() as session:
            body = {"inputs": [tensor], **more}
            async with session.post(f"{stage.url}/v2/models/m/infer", json=body) as answer:
                return answer.status, await answer.json()

    async def test_rest_and_grpc_callers_share_a_batch(self, stage: Stage) -> None:
        first = await blocked(stage)
        by_grpc = begin(stage.infer(1.0, ident="grpc"))
        by_rest = begin(self.post(stage, 2.0, 3.0, id="rest"))
        await waiting(stage, 2)
        stage.model.is_open.set()
        await first
        assert (await by_grpc).id == "grpc"
        output = {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [4.0, 6.0]}
        assert await by_rest == (200, {"model_name": "m", "id": "rest", "outputs": [output]})

    async def test_an_error_is_an_error(self, stage: Stage) -> None:
        assert await self.post(stage, POISON) == (400, {"error": "bad luck"})
        status, document = await self.post(stage, 1.0, inputs=[])
        assert status in {400, 500}, document

    async def test_a_body_that_does_not_fit_is_refused_here(self, stage: Stage) -> None:
        async with aiohttp.ClientSession() as session:
            body = {"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [1]}]}
            async with session.post(f"{stage.url}/v2/models/m/infer", json=body) as answer:
                assert answer.status == 400
                assert "1 elements for shape [3]" in (await answer.json())["error"]
        assert stage.model.sizes == []

    async def test_a_large_body_with_binary_tensors(self, stage: Stage) -> None:
        count = 100_000
        blob = struct.pack(f"<{count}f", *range(count))
        tensor = {
            "name": "x",
            "shape": [count, 1],
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(blob)},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        async with aiohttp.ClientSession() as session:
            url = f"{stage.url}/v2/models/m/infer"
            async with session.post(url, data=head + blob, headers=headers) as answer:
                assert answer.status == 200
                size = int(answer.headers["Inference-Header-Content-Length"])
                assert (await answer.read())[size:] == struct.pack(f"<{count}f", *range(0, 2 * count, 2))

    @pytest.mark.parametrize(
        ("path", "status", "document"),
        [
            ("/v2/health/live", 200, {"live": True}),
            ("/v2/health/ready", 200, {"ready": True}),
            ("/v2/models/m/ready", 200, {"name": "m", "ready": True}),
            (
                "/v2/models/m",
                200,
                {"name": "m", "versions": [], "platform": "p", "inputs": [], "outputs": []},
            ),
            ("/v2", 501, {"error": "Method not found!"}),
        ],
    )
    async def test_what_is_not_inference(
        self, stage: Stage, path: str, status: int, document: object
    ) -> None:
        async with aiohttp.ClientSession() as session, session.get(stage.url + path) as answer:
            assert (answer.status, await answer.json()) == (status, document)

    async def test_a_path_without_a_grpc_form_is_refused_with_the_reason(self, stage: Stage) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{stage.url}/v2/models/m/generate") as answer,
        ):
            assert answer.status == 404
            assert "has no gRPC form" in (await answer.json())["error"]

    async def test_the_extensions_of_the_protocol_are_translated(self, stage: Stage) -> None:
        async with aiohttp.ClientSession(stage.url) as session:
            async with session.get("/v2/models/m/config") as answer:
                config = await answer.json()
            assert (config["name"], config["max_batch_size"]) == ("m", 8)
            for model, status, body in (("m", 200, b""), ("missing", 404, b'{"error":"no such model"}')):
                async with session.post(f"/v2/repository/models/{model}/load", json={}) as answer:
                    assert (answer.status, await answer.read()) == (status, body)
            async with session.get("/v2/models/m/stats") as answer:
                assert (answer.status, await answer.json()) == (501, {"error": "Method not found!"})
