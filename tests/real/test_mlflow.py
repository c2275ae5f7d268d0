"""Pillion in front of MLflow's scoring server: every answer in each of its four forms equals the direct one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from proxy.demo.client import get
from proxy.demo.models import sample_images
from proxy.demo.run import drive
from tests.support.mlflow_server import mlflow_server
from tests.support.parity import Call, Pair, batches_by_model
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

CLIENTS = 200
IMAGES = [list(map(float, image)) for image, _ in sample_images()]
NAMES = [f"pixel {place}" for place in range(64)]
FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Pair, str]]:
    """The server and a proxy in front of it, started without a configuration file; the proxy's admin port."""
    async with (
        mlflow_server(tmp_path_factory.mktemp("mlflow")) as server,
        pillion("--upstream", server.url, "--protocol", "mlflow") as proxied,
    ):
        yield Pair(server.url, proxied.url, CLIENTS), proxied.admin


def invocation(form: str, rows: Sequence[Sequence[float]]) -> Call:
    payload: object = rows
    if form == "dataframe_split":
        payload = {"columns": NAMES, "data": rows}
    elif form == "dataframe_records":
        payload = [dict(zip(NAMES, row, strict=False)) for row in rows]
    return "/invocations", json.dumps({form: payload}).encode()


async def test_the_four_forms_of_many_clients_in_mixed_sizes(served: tuple[Pair, str]) -> None:
    pair, admin = served
    calls = [invocation(FORMS[i % 4], IMAGES[i % 97 : i % 97 + 1 + i % 5]) for i in range(480)]
    answers = await pair.answers(calls)
    assert [len(reply["predictions"]) for _, reply in answers] == [1 + i % 5 for i in range(480)]
    (batches,) = [each for each in (await batches_by_model(admin)).values() if each["count"]]
    assert batches["items_mean"] > 4


@pytest.mark.parametrize("form", FORMS)
async def test_a_bad_request_among_good_ones_harms_only_itself(served: tuple[Pair, str], form: str) -> None:
    good = [invocation(form, [image]) for image in IMAGES[:90]]
    bad = [invocation(form, [image[:63]]) for image in IMAGES[:2]]
    answers = await served[0].answers([*good[:40], *bad, *good[40:]])
    assert sum(status == 200 for status, _ in answers) == len(good)


async def test_errors_are_the_servers_own(served: tuple[Pair, str]) -> None:
    answers = await served[0].answers([("/invocations", b'{"instances": ['), ("/invocations", b'{"x": 1}')])
    assert [status for status, _ in answers] == [400, 400]


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
async def test_what_is_not_inference_is_passed_through(served: tuple[Pair, str], path: str) -> None:
    pair, _ = served
    direct, proxied = [(await drive(url, [get(url, path)], 1)).answers for url in (pair.direct, pair.proxied)]
    assert direct == proxied
    assert direct[0][0] == 200
