"""Pillion in front of an unmodified MLServer: every answer through it equals the direct one.

One MLServer with its two models serves the whole module; each request goes straight to it and through a
``pillion serve`` process, from 64 clients at once, so that most of what Pillion sends are merged batches.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from proxy.demo.client import get
from proxy.demo.models import sample_images
from proxy.demo.run import drive
from tests.support.mlserver import FOREST, LOGISTIC, infer_body, mlserver, train
from tests.support.parity import Call, Pair
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

CLIENTS = 64
IMAGES = [image for image, _ in sample_images()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """MLServer and a proxy in front of it, started without a configuration file."""
    folder: Path = tmp_path_factory.mktemp("models")
    async with (
        mlserver(train(folder)) as server,
        pillion("--upstream", server.url, "--protocol", "open-inference") as proxied,
    ):
        yield Pair(server.url, proxied.url, CLIENTS)


def infer(model: str, rows: list[list[int]], identity: str) -> Call:
    return f"/v2/models/{model}/infer", infer_body(rows, identity)


@pytest.mark.parametrize(("model", "requests"), [(LOGISTIC, 512), (FOREST, 128)])
async def test_single_rows_of_many_clients(pair: Pair, model: str, requests: int) -> None:
    calls = [infer(model, [IMAGES[i % len(IMAGES)]], f"call-{i}") for i in range(requests)]
    answers = await pair.answers(calls)
    assert all(status == 200 for status, _ in answers)
    assert [reply["id"] for _, reply in answers] == [f"call-{i}" for i in range(requests)]


@pytest.mark.parametrize("model", [LOGISTIC, FOREST])
async def test_requests_of_different_sizes_share_batches(pair: Pair, model: str) -> None:
    calls = [infer(model, IMAGES[i : i + 1 + i % 7], f"call-{i}") for i in range(64)]
    answers = await pair.answers(calls)
    assert all(status == 200 for status, _ in answers)


async def test_two_models_at_once_are_not_mixed(pair: Pair) -> None:
    calls = [infer((LOGISTIC, FOREST)[i % 2], [IMAGES[i]], f"call-{i}") for i in range(96)]
    answers = await pair.answers(calls)
    assert [reply["model_name"] for _, reply in answers] == [LOGISTIC, FOREST] * 48


async def test_errors_are_the_servers_own(pair: Pair) -> None:
    unparsable = ("/v2/models/logistic/infer", b'{"inputs": [')
    calls = [infer(LOGISTIC, [IMAGES[0][:10]], "short"), infer("none", [IMAGES[0]], "unknown"), unparsable]
    answers = await pair.answers(calls)
    assert [status for status, _ in answers] == [500, 404, 422]


async def test_a_bad_request_among_good_ones_harms_only_itself(pair: Pair) -> None:
    good = [infer(LOGISTIC, [image], f"call-{i}") for i, image in enumerate(IMAGES)]
    bad = [infer(LOGISTIC, [IMAGES[i][:63]], f"bad-{i}") for i in range(4)]
    calls = [*good[:30], *bad[:2], *good[30:90], *bad[2:], *good[90:]]
    answers = await pair.answers(calls)
    assert sum(status == 200 for status, _ in answers) == len(good)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/forest", "/v2/models/forest/ready"])
async def test_what_is_not_inference_is_passed_through(pair: Pair, path: str) -> None:
    answers = [(await drive(url, [get(url, path)], 1)).answers for url in (pair.direct, pair.proxied)]
    assert answers[0] == answers[1]
    assert answers[0][0][0] == 200


async def test_tritons_own_client_in_json(pair: Pair) -> None:
    direct = [await infer_one(pair.direct, number) for number in range(8)]
    async with InferenceServerClient(pair.proxied.removeprefix("http://"), conn_limit=200) as client:
        proxied = await asyncio.gather(*(ask_with(client, number) for number in range(200)))
    assert proxied[:8] == direct
    assert [ident for ident, _ in proxied] == [f"call-{number}" for number in range(200)]


async def test_tritons_own_client_with_binary_tensors_gets_the_servers_refusal(pair: Pair) -> None:
    refusals = []
    for url in (pair.direct, pair.proxied):
        with pytest.raises(InferenceServerException) as refusal:
            await infer_one(url, 1, binary=True)
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]


async def infer_one(url: str, number: int, *, binary: bool = False) -> tuple[str, list[Any]]:
    async with InferenceServerClient(url.removeprefix("http://")) as client:
        return await ask_with(client, number, binary=binary)


async def ask_with(
    client: InferenceServerClient, number: int, *, binary: bool = False
) -> tuple[str, list[Any]]:
    """The id and the labels of one call's answer, for one to three rows."""
    rows = np.array(IMAGES[number % 90 : number % 90 + 1 + number % 3], dtype=np.float32)
    tensor = InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    outputs = [InferRequestedOutput("predict", binary_data=binary)]
    # MLServer reads no JSON without its media type, and the client no error that is compressed.
    fields = {"Accept-Encoding": "identity"} | ({} if binary else {"Content-Type": "application/json"})
    found = await client.infer(
        LOGISTIC, [tensor], outputs=outputs, request_id=f"call-{number}", headers=fields
    )
    labels = found.as_numpy("predict")
    assert labels is not None
    return found.get_response()["id"], labels.tolist()
