"""Pillion in front of KServe's Python server, V1 and Open Inference: every answer equals the direct one.

One server with its three models serves the whole module. 200 clients ask at once, for several models, in rows
of several widths, so that most of what Pillion sends are merged batches and few requests may share one.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient

from proxy.demo.client import get
from proxy.demo.models import sample_images
from proxy.demo.run import drive
from tests.support.kserve import kserve
from tests.support.parity import Call, Pair, batches_by_model
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

CLIENTS = 200
IMAGES = [list(image) for image, _ in sample_images()]
CONFIG = """
version: 1
upstreams:
  v1: {{protocol: kserve-v1, http: ["{url}"]}}
  v2: {{protocol: open-inference, http: ["{url}"]}}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Server and proxy, and what the proxy says of itself."""

    pair: Pair
    admin: str

    async def batched(self) -> tuple[int, float]:
        """How many batches were sent, and how many items they held in the mean."""
        batches = [each for each in (await batches_by_model(self.admin)).values() if each["count"]]
        count = sum(each["count"] for each in batches)
        return count, sum(each["count"] * each["items_mean"] for each in batches) / max(count, 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("kserve")
    async with kserve(folder) as server:
        config = folder / "pillion.yaml"
        config.write_text(CONFIG.format(url=server.url))
        async with pillion("-c", str(config)) as proxied:
            yield Scene(Pair(server.url, proxied.url, CLIENTS), proxied.admin)


def v1(model: str, rows: Sequence[Sequence[float]]) -> Call:
    return f"/v1/models/{model}:predict", json.dumps({"instances": rows}).encode()


def v2(model: str, ident: str, **tensors: Sequence[Sequence[int]]) -> Call:
    inputs = [
        {
            "name": name,
            "shape": [len(rows), len(rows[0])],
            "datatype": "INT64",
            "data": [value for row in rows for value in row],
        }
        for name, rows in tensors.items()
    ]
    return f"/v2/models/{model}/infer", json.dumps({"id": ident, "inputs": inputs}).encode()


def rows_of(number: int) -> list[list[int]]:
    """One to three rows, all two to five wide."""
    return [[number + row + column for column in range(2 + number % 4)] for row in range(1 + number % 3)]


async def test_v1_of_many_clients_in_mixed_models_and_shapes(scene: Scene) -> None:
    calls = [
        v1("digits", IMAGES[i % 97 : i % 97 + 1 + i % 3]) if i % 2 else v1("width", rows_of(i))
        for i in range(600)
    ]
    answers = await scene.pair.answers(calls)
    assert {status for status, _ in answers} == {200}
    _, items = await scene.batched()
    assert items > 4


async def test_open_inference_of_many_clients_in_mixed_models_and_shapes(scene: Scene) -> None:
    calls = [
        v2("digits", f"call-{i}", image=IMAGES[i % 97 : i % 97 + 1 + i % 3])
        if i % 2
        else v2("width", f"call-{i}", x=rows_of(i))
        for i in range(600)
    ]
    answers = await scene.pair.answers(calls)
    assert {status for status, _ in answers} == {200}
    assert [reply["id"] for _, reply in answers] == [f"call-{i}" for i in range(600)]
    assert {len(reply["outputs"]) for _, reply in answers} == {1, 2}


async def test_several_inputs(scene: Scene) -> None:
    calls = [v2("pair", f"call-{i}", left=rows_of(i), right=rows_of(i)) for i in range(300)]
    answers = await scene.pair.answers(calls)
    assert {status for status, _ in answers} == {200}


async def test_a_bad_request_among_good_ones_harms_only_itself(scene: Scene) -> None:
    good = [v1("digits", [image]) for image in IMAGES[:150]]
    bad = [v1("digits", [image[:63]]) for image in IMAGES[:4]]
    answers = await scene.pair.answers([*good[:70], *bad[:2], *good[70:], *bad[2:]])
    assert sum(status == 200 for status, _ in answers) == len(good)


async def test_errors_are_the_servers_own(scene: Scene) -> None:
    calls = [v1("none", [[1]]), v2("none", "a", x=[[1]]), ("/v1/models/width:predict", b'{"instances": [')]
    statuses = [status for status, _ in await scene.pair.answers(calls)]
    assert statuses[:2] == [404, 404]
    assert statuses[2] >= 400


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/width", "/v2/health/ready", "/v2/models/width"])
async def test_what_is_not_inference_is_passed_through(scene: Scene, path: str) -> None:
    urls = (scene.pair.direct, scene.pair.proxied)
    direct, proxied = [(await drive(url, [get(url, path)], 1)).answers for url in urls]
    assert direct == proxied
    assert direct[0][0] == 200


async def test_binary_tensors_of_tritons_own_client(scene: Scene) -> None:
    direct, proxied = await infer_binary(scene.pair.direct, 200), await infer_binary(scene.pair.proxied, 200)
    assert proxied == direct
    assert proxied[7] == ("call-7", [sum(row) for row in rows_of(7)], [len(row) for row in rows_of(7)])


async def infer_binary(url: str, count: int) -> list[tuple[Any, ...]]:
    """Answers to `count` calls at once, tensors binary both ways; in turn where the server is asked directly."""
    async with InferenceServerClient(url.removeprefix("http://"), conn_limit=count) as client:
        return await asyncio.gather(*(infer_one(client, number) for number in range(count)))


async def infer_one(client: InferenceServerClient, number: int) -> tuple[Any, ...]:
    rows = np.array(rows_of(number), dtype=np.int64)
    tensor = InferInput("x", list(rows.shape), "INT64")
    tensor.set_data_from_numpy(rows, binary_data=True)
    outputs = [InferRequestedOutput(name, binary_data=True) for name in ("sum", "length")]
    found = await client.infer("width", [tensor], outputs=outputs, request_id=f"call-{number}")
    sums, lengths = (found.as_numpy(name) for name in ("sum", "length"))
    assert sums is not None
    assert lengths is not None
    return found.get_response()["id"], sums.tolist(), lengths.tolist()
