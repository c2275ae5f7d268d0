"""Pillion before MLServer's gRPC port, called by Triton's client: every answer through it equals the direct one.

The server knows nothing of Pillion, the client library was not written by us, and the calls of 200 callers are
merged on their way; what they get must be what each would have got alone.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio
from grpc import aio
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from proxy.demo.client import get, post
from proxy.demo.models import sample_images
from proxy.demo.run import drive
from tests.support.inference_messages import inference
from tests.support.mlserver import FOREST, LOGISTIC, mlserver, train
from tests.support.parity import batches_by_model
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

CALLERS = 200
INFER = "/inference.GRPCInferenceService/ModelInfer"
IMAGES = np.array([image for image, _ in sample_images()], dtype=np.float32)
CONFIG = """version: 1
server: {{grpc: {{listen: "127.0.0.1:0"}}}}
upstreams:
  model: {{protocol: open-inference, grpc: ["{grpc}"], pool: {{grpc: {{min: 2}}}}}}
models:
  "*": {{batch: {{verify: 10%}}}}
"""

Rows = np.ndarray[Any, np.dtype[np.float32]]
Asked = tuple[str, Rows, str]
"""Model, rows, the caller's id."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Where the server listens for gRPC and REST, where the proxy does, and where its operators look.

    The proxy knows the server's gRPC port only.
    """

    direct: str
    rest: str
    proxied: str
    bridged: str
    admin: str

    async def batches(self, model: str) -> dict[str, Any]:
        """What the proxy tells of a model's batches."""
        return (await batches_by_model(self.admin))[model]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("models")
    async with mlserver(train(folder)) as server:
        config = folder / "pillion.yaml"
        config.write_text(CONFIG.format(grpc=server.grpc))
        async with pillion("-c", str(config)) as sidecar:
            yield Pair(server.grpc, server.url, sidecar.grpc, sidecar.url, sidecar.admin)


@asynccontextmanager
async def clients(
    pair: Pair,
) -> AsyncIterator[tuple[triton.InferenceServerClient, triton.InferenceServerClient]]:
    """Triton's client to the server itself, and one to the proxy."""
    async with (
        triton.InferenceServerClient(pair.direct) as direct,
        triton.InferenceServerClient(pair.proxied) as proxied,
    ):
        yield direct, proxied


async def infer(client: triton.InferenceServerClient, asked: Asked) -> object:
    """The answer as a message, or its error's status and text."""
    model, rows, identity = asked
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    try:
        answer = await client.infer(model, [tensor], request_id=identity)
    except InferenceServerException as error:
        return error.status(), error.message()
    return answer.get_response()


async def answers(pair: Pair, calls: list[Asked]) -> list[Any]:
    """The answers through the proxy to `calls` at once, each equal to the direct one."""
    async with clients(pair) as (direct, proxied):
        expected = [await infer(direct, asked) for asked in calls]
        found = await asyncio.gather(*[infer(proxied, asked) for asked in calls])
    assert found == expected
    return found


async def test_callers_with_mixed_shapes_and_models_get_their_own_answers(pair: Pair) -> None:
    calls = [
        ((LOGISTIC, FOREST)[i % 2], IMAGES[i % 50 : i % 50 + 1 + i % 5], f"call-{i}") for i in range(CALLERS)
    ]
    found = await answers(pair, calls)
    assert [answer.id for answer in found] == [identity for *_, identity in calls]
    for model in (LOGISTIC, FOREST):
        batches = await pair.batches(model)
        assert batches["count"] < CALLERS / 8
        assert batches["isolations"] == 0


async def test_a_bad_request_among_good_ones_harms_only_itself(pair: Pair) -> None:
    good = [(LOGISTIC, IMAGES[i : i + 1], f"good-{i}") for i in range(60)]
    bad = [(LOGISTIC, IMAGES[i : i + 1, :63], f"bad-{i}") for i in range(2)]
    unknown = [("none", IMAGES[:1], "unknown")]
    found = await answers(pair, [*good[:20], *bad, *good[20:], *unknown])
    assert [isinstance(answer, tuple) for answer in found] == [False] * 20 + [True] * 2 + [False] * 40 + [
        True
    ]


def typed(index: int) -> bytes:
    request = inference.ModelInferRequest(model_name=LOGISTIC, id=f"typed-{index}")
    rows = IMAGES[index : index + 1 + index % 3]
    tensor = request.inputs.add(name="image", datatype="FP32", shape=rows.shape)
    tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    message: bytes = request.SerializeToString()
    return message


async def test_typed_contents_are_merged_byte_for_byte(pair: Pair) -> None:
    before = await pair.batches(LOGISTIC)
    async with aio.insecure_channel(pair.direct) as direct, aio.insecure_channel(pair.proxied) as proxied:
        messages = [typed(index) for index in range(64)]
        expected = [await direct.unary_unary(INFER)(message) for message in messages]
        found = await asyncio.gather(*[proxied.unary_unary(INFER)(message) for message in messages])
    assert found == expected
    assert (await pair.batches(LOGISTIC))["count"] - before["count"] < 16


async def test_what_is_not_inference_is_passed_through(pair: Pair) -> None:
    async with clients(pair) as (direct, proxied):
        for client in (direct, proxied):
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(FOREST)
        assert await proxied.get_server_metadata() == await direct.get_server_metadata()
        assert await proxied.get_model_metadata(FOREST) == await direct.get_model_metadata(FOREST)
        index = await proxied.get_model_repository_index()
        assert {model.name for model in index.models} == {LOGISTIC, FOREST}
        assert index == await direct.get_model_repository_index()


def rest(model: str, rows: Rows, identity: str) -> tuple[str, bytes]:
    """An inference call in the REST form."""
    tensor = {"name": "image", "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
    return f"/v2/models/{model}/infer", json.dumps({"id": identity, "inputs": [tensor]}).encode()


def documents(answers: list[tuple[int, bytes]]) -> list[tuple[int, object]]:
    """Status and content; MLServer writes parameters that it does not have as an empty object."""
    return [(status, json.loads(body, object_hook=_without_empty)) for status, body in answers]


def _without_empty(document: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in document.items() if value != {}}


async def test_rest_calls_get_the_answers_of_the_rest_port(pair: Pair) -> None:
    calls = [rest((LOGISTIC, FOREST)[i % 2], IMAGES[i : i + 1 + i % 3], f"rest-{i}") for i in range(90)]
    unknown = rest("none", IMAGES[:1], "unknown")
    before = await pair.batches(LOGISTIC)
    direct = await drive(pair.rest, [post(pair.rest, *call) for call in calls], 1)
    proxied = await drive(pair.bridged, [post(pair.bridged, *call) for call in calls], 64)
    assert documents(proxied.answers) == documents(direct.answers)
    assert (await pair.batches(LOGISTIC))["count"] - before["count"] < 20
    ((status, body),) = (await drive(pair.bridged, [post(pair.bridged, *unknown)], 1)).answers
    assert (status, json.loads(body)) == (
        404,
        {"error": "Model none with version  not found"},
    )  # in its gRPC words


@pytest.mark.parametrize("path", ["/v2", "/v2/models/forest"])
async def test_rest_metadata_are_those_of_the_rest_port(pair: Pair, path: str) -> None:
    direct, proxied = [
        documents((await drive(url, [get(url, path)], 1)).answers) for url in (pair.rest, pair.bridged)
    ]
    assert proxied == direct


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/forest/ready"])
async def test_rest_health_is_that_of_the_rest_port(pair: Pair, path: str) -> None:
    direct, proxied = [(await drive(url, [get(url, path)], 1)).answers for url in (pair.rest, pair.bridged)]
    assert proxied[0][0] == direct[0][0] == 200
