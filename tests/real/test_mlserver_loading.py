"""Pillion loads and unloads the models of an unmodified MLServer, over its REST and its gRPC port."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc import aio

from proxy.demo.models import sample_images
from proxy.loading.control.protobuf import encode
from tests.support.mlserver import FOREST, LOGISTIC, MLServer, infer_body, mlserver, train
from tests.support.sidecar import pillion
from tests.support.waiting import until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

ROWS = [image for image, _ in sample_images()][:1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MLServer]:
    """One MLServer for the module; its models are loaded at first."""
    async with mlserver(train(tmp_path_factory.mktemp("models"))) as running:
        yield running


async def states(client: aiohttp.ClientSession, server: MLServer) -> dict[str, str]:
    """What MLServer itself says."""
    async with client.post(f"{server.url}/v2/repository/index", json={}) as answer:
        return {entry["name"]: entry["state"] for entry in await answer.json()}


async def ask(client: aiohttp.ClientSession, url: str, model: str) -> int:
    target, headers = f"{url}/v2/models/{model}/infer", {"Content-Type": "application/json"}
    async with client.post(target, data=infer_body(ROWS, "1"), headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("port", ["rest", "grpc"])
async def test_two_models_share_one_place(server: MLServer, tmp_path: Path, port: str) -> None:
    grpc = f", grpc: ['{server.grpc}']" if port == "grpc" else ""
    config = tmp_path / "pillion.yaml"
    config.write_text(
        "version: 1\n"
        f"upstreams: {{model: {{protocol: open-inference, http: ['{server.url}']{grpc}}}}}\n"
        "loading:\n"
        "  mode: demand\n"
        "  max_models: 1\n"
        "  control: {every: 200ms}\n"
        f"  history: {{file: '{tmp_path}/history.json'}}\n"
        f"  models: {{{FOREST}: {{load_time: 2s}}, {LOGISTIC}: {{load_time: 1s}}}}\n"
    )
    async with aiohttp.ClientSession() as client:
        async with pillion("-c", str(config)) as sidecar:
            await until_managed(client, sidecar.admin)
            for model in (FOREST, LOGISTIC):
                async with client.post(f"{sidecar.admin}/models/{model}/unload") as answer:
                    await answer.read()
            await until_unloaded(client, server)
            for model, other in ((FOREST, LOGISTIC), (LOGISTIC, FOREST), (FOREST, LOGISTIC)):
                statuses = await asyncio.gather(*(ask(client, sidecar.url, model) for _ in range(8)))
                assert set(statuses) == {200}
                assert await states(client, server) == {model: "READY", other: "UNAVAILABLE"}
            async with client.get(f"{sidecar.admin}/models") as answer:
                report = await answer.json()
            assert {m["name"]: m["loads_measured"] for m in report["models"]} == {FOREST: 2, LOGISTIC: 1}
            async with client.post(f"{sidecar.admin}/models/{LOGISTIC}/load") as answer:
                assert answer.status == 202
            async with client.post(f"{sidecar.admin}/drain") as answer:
                await answer.read()
            await sidecar.wait()
        for model in (FOREST, LOGISTIC):  # as the next test expects them
            async with client.post(f"{server.url}/v2/repository/models/{model}/load") as answer:
                await answer.read()
    measured = json.loads((tmp_path / "history.json").read_bytes())["models"]
    assert 0 < measured[FOREST]["cost"]["mean"] < 30


async def until_managed(client: aiohttp.ClientSession, admin: str) -> None:
    """Return once the proxy knows both models."""
    await until_told(lambda: _are(client, f"{admin}/models", "ready"))


async def until_unloaded(client: aiohttp.ClientSession, server: MLServer) -> None:
    """Return once the server has unloaded both models."""

    async def is_so() -> bool:
        return set((await states(client, server)).values()) == {"UNAVAILABLE"}

    await until_told(is_so)


async def _are(client: aiohttp.ClientSession, url: str, state: str) -> bool:
    async with client.get(url) as answer:
        return {m["state"] for m in (await answer.json())["models"]} == {state}


def infer_message(model: str) -> bytes:
    """A ModelInferRequest for one image."""
    image = ROWS[0]
    pixels = encode((6, struct.pack(f"<{len(image)}f", *image)))
    tensor = encode((1, "image"), (2, "FP32"), (3, bytes((1, len(image)))), (5, pixels))
    return encode((1, model), (5, tensor))


async def test_grpc_calls_wait_for_their_model_too(server: MLServer, tmp_path: Path) -> None:
    config = tmp_path / "pillion.yaml"
    config.write_text(
        "version: 1\n"
        "server: {grpc: {listen: '127.0.0.1:0'}}\n"
        f"upstreams: {{model: {{protocol: open-inference, http: ['{server.url}'], grpc: ['{server.grpc}']}}}}\n"
        f"loading: {{mode: demand, control: {{every: 200ms}}, models: {{{LOGISTIC}: {{load_time: 60s}}}}}}\n"
    )
    method = "/inference.GRPCInferenceService/ModelInfer"
    async with aiohttp.ClientSession() as client, pillion("-c", str(config)) as sidecar:
        await until_managed(client, sidecar.admin)
        for model in (FOREST, LOGISTIC):
            async with client.post(f"{sidecar.admin}/models/{model}/unload") as answer:
                await answer.read()
        await until_unloaded(client, server)
        async with aio.insecure_channel(sidecar.grpc) as channel:
            infer = channel.unary_unary(method)
            assert await infer(infer_message(FOREST))
            with pytest.raises(aio.AioRpcError) as caught:
                await infer(infer_message(LOGISTIC), timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            trailers = dict(caught.value.trailing_metadata() or ())
            assert trailers["grpc-retry-pushback-ms"] == "60000"
            await until_told(lambda: _are(client, f"{sidecar.admin}/models", "ready"))
            assert await infer(infer_message(LOGISTIC)), "the load went on"
            async with client.post(f"{server.url}/v2/repository/models/{FOREST}/unload") as answer:
                assert answer.status == 200
            assert await infer(infer_message(FOREST)), "somebody unloaded it behind our back"
