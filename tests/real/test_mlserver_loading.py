"""Pillion loads and unloads the models of an unmodified MLServer, over its REST and its gRPC port."""

from __future__ import annotations

import asyncio
import json
import struct
from functools import partial
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
    """One MLServer for the module."""
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
    now = asyncio.get_running_loop().time
    began = now()
    async with aiohttp.ClientSession() as client, pillion("-c", str(config)) as sidecar:
        await all_are_unloaded(client, server, sidecar.admin)
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
    measured = json.loads((tmp_path / "history.json").read_bytes())["models"]
    assert 0 < measured[FOREST]["cost"]["mean"] < now() - began


async def all_are_unloaded(client: aiohttp.ClientSession, server: MLServer, admin: str) -> None:
    """Return once both models have been loaded and unloaded, and both the server and the proxy say so."""

    async def are_loaded() -> bool:
        for model in (FOREST, LOGISTIC):
            async with client.post(f"{server.url}/v2/repository/models/{model}/load") as answer:
                await answer.read()
        return await proxy_has_all(client, admin, "ready")

    async def server_has_none() -> bool:
        return set((await states(client, server)).values()) == {"UNAVAILABLE"}

    await until_told(are_loaded)
    for model in (FOREST, LOGISTIC):
        async with client.post(f"{admin}/models/{model}/unload") as answer:
            await answer.read()
    await until_told(server_has_none)
    await until_told(partial(proxy_has_all, client, admin, "unloaded"))


async def proxy_has_all(client: aiohttp.ClientSession, admin: str, state: str) -> bool:
    """Whether the proxy knows both models, both in `state`."""
    async with client.get(f"{admin}/models") as answer:
        found = {model["name"]: model["state"] for model in (await answer.json())["models"]}
    return found == dict.fromkeys((FOREST, LOGISTIC), state)


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
        await all_are_unloaded(client, server, sidecar.admin)
        async with aio.insecure_channel(sidecar.grpc) as channel:
            infer = channel.unary_unary(method)
            assert await infer(infer_message(FOREST))
            with pytest.raises(aio.AioRpcError) as caught:
                await infer(infer_message(LOGISTIC), timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            trailers = dict(caught.value.trailing_metadata() or ())
            assert trailers["grpc-retry-pushback-ms"] == "60000"
            await until_told(partial(proxy_has_all, client, sidecar.admin, "ready"))
            assert await infer(infer_message(LOGISTIC)), "the load went on"
            async with client.post(f"{server.url}/v2/repository/models/{FOREST}/unload") as answer:
                assert answer.status == 200
            assert await infer(infer_message(FOREST)), "somebody unloaded it behind our back"
