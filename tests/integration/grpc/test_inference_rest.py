"""Open Inference by REST before a server that speaks gRPC only."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.integration.grpc.inference_rig import POISON, Stage, begin, blocked, staged, waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


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
