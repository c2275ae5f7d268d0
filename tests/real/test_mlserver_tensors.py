"""Several inputs and outputs, numbers and strings, before a custom runtime of an unmodified MLServer.

Two models of the same runtime serve the whole module. 200 clients ask at once, in mixed shapes, forms and models;
every answer equals the direct one.
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

from tests.support.mlserver import mlserver
from tests.support.parity import Call, Pair, batches_by_model
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

CLIENTS = 200
MODELS = ("north", "south")
RUNTIME = "tests.support.servers.mlserver_runtime.Sensors"
NAMES = ("ground", 'with "marks"', "ß, ☃ and \\", "", "null")


@dataclass(frozen=True, slots=True)
class Scene:
    """Server and proxy, and where the proxy's operators look."""

    pair: Pair
    admin: str

    async def batches(self, model: str) -> dict[str, Any]:
        """What the proxy tells of a model's batches."""
        return (await batches_by_model(self.admin))[model]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        (folder / name).mkdir()
        (folder / name / "model.joblib").touch()  # nothing to be learned: the runtime is the model
    async with (
        mlserver(folder, runtime=RUNTIME) as server,
        pillion("--upstream", server.url, "--protocol", "open-inference") as proxied,
    ):
        yield Scene(Pair(server.url, proxied.url, CLIENTS), proxied.admin)


def readings_of(number: int) -> list[list[float]]:
    """One to four sensors with two to four readings each."""
    return [[number + row / 4 - column for column in range(2 + number % 3)] for row in range(1 + number % 4)]


def sensors_of(number: int) -> list[str]:
    """As many names."""
    return [f"{NAMES[(number + row) % len(NAMES)]} {number}" for row in range(1 + number % 4)]


def call(number: int, sensors: list[str] | None = None) -> Call:
    """A request to one of the models, its data flat or nested, its inputs in either order."""
    readings = readings_of(number)
    shape = [len(readings), len(readings[0])]
    flat = readings if number % 5 == 0 else [value for row in readings for value in row]
    inputs = [
        {"name": "readings", "shape": shape, "datatype": "FP64", "data": flat},
        {"name": "sensor", "shape": [shape[0]], "datatype": "BYTES", "data": sensors or sensors_of(number)},
    ]
    document = {"id": f"call-{number}", "inputs": inputs[:: -1 if number % 7 == 0 else 1]}
    return f"/v2/models/{MODELS[number % 2]}/infer", json.dumps(
        document, ensure_ascii=number % 2 == 0
    ).encode()


async def test_mixed_shapes_forms_and_models(scene: Scene) -> None:
    answers = await scene.pair.answers([call(number) for number in range(600)])
    assert {status for status, _ in answers} == {200}
    assert [reply["id"] for _, reply in answers] == [f"call-{number}" for number in range(600)]
    assert {len(reply["outputs"]) for _, reply in answers} == {3}
    for number, (_, reply) in enumerate(answers):
        told = reply["outputs"][1]["data"]
        model, sensors = MODELS[number % 2], sensors_of(number)
        assert all(text.startswith(f"{model}: {name} has") for text, name in zip(told, sensors, strict=True))
    for model in MODELS:
        batches = await scene.batches(model)
        assert batches["count"] < 100  # for 300 calls
        assert batches["isolations"] == 0


async def test_a_call_that_fails_harms_only_itself(scene: Scene) -> None:
    calls = [call(number, ["broken"] if number % 50 == 8 else None) for number in range(8, 408, 4)]
    answers = await scene.pair.answers(calls)
    assert [status == 200 for status, _ in answers] == [number % 50 != 8 for number in range(8, 408, 4)]


async def test_tritons_own_client(scene: Scene) -> None:
    async with InferenceServerClient(scene.pair.direct.removeprefix("http://")) as client:
        direct = [await ask(client, number) for number in range(40)]
    async with InferenceServerClient(
        scene.pair.proxied.removeprefix("http://"), conn_limit=CLIENTS
    ) as client:
        proxied = await asyncio.gather(*(ask(client, number) for number in range(CLIENTS)))
    assert proxied[:40] == direct
    assert [found[0] for found in proxied] == [f"call-{number}" for number in range(CLIENTS)]
    assert [len(found[1]) for found in proxied] == [1 + number % 4 for number in range(CLIENTS)]


async def ask(client: InferenceServerClient, number: int) -> tuple[str, Any, Any, Any]:
    """The id and the three outputs of one call's answer."""
    rows = np.array(readings_of(number), dtype=np.float64)
    readings = InferInput("readings", list(rows.shape), "FP64")
    readings.set_data_from_numpy(rows, binary_data=False)
    names = np.array([name.encode() for name in sensors_of(number)], dtype=np.object_)
    sensors = InferInput("sensor", list(names.shape), "BYTES")
    sensors.set_data_from_numpy(names, binary_data=False)
    outputs = [InferRequestedOutput(name, binary_data=False) for name in ("sum", "told", "doubled")]
    # MLServer reads no JSON without its media type.
    fields = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
    model = MODELS[number % 2]
    found = await client.infer(
        model, [readings, sensors], outputs=outputs, request_id=f"call-{number}", headers=fields
    )
    arrays = {name: found.as_numpy(name) for name in ("sum", "told", "doubled")}
    assert all(array is not None for array in arrays.values())
    return found.get_response()["id"], *(array.tolist() for array in arrays.values() if array is not None)
