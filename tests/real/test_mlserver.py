"""Pillion in front of an unmodified MLServer: every answer through it equals the direct one.

One MLServer with its two models serves the whole module; each request goes straight to it and through a
``pillion serve`` process, from 64 clients at once, so that most of what Pillion sends are merged batches.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from proxy.demo.client import get, post
from proxy.demo.models import sample_images
from proxy.demo.run import drive
from tests.support.mlserver import FOREST, LOGISTIC, infer_body, mlserver, train
from tests.support.sidecar import pillion

if TYPE_CHECKING:
    from pathlib import Path
from typing import Any

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

Call = tuple[str, bytes]
"""Path and body of a POST."""

CLIENTS = 64
IMAGES = [image for image, _ in sample_images()]


@dataclass(frozen=True, slots=True)
class Pair:
    """The server's own URL and the proxy's."""

    direct: str
    proxied: str

    async def answers(self, calls: list[Call]) -> list[tuple[int, Any]]:
        """The answers to these POSTs through the proxy, each of which equals the direct one."""
        direct = []
        for path, body in calls:  # on fresh connections: after a 500 the server closes without a word
            direct += (await drive(self.direct, [post(self.direct, path, body)], 1)).answers
        through = await drive(self.proxied, [post(self.proxied, *call) for call in calls], CLIENTS)
        proxied = [(status, document(body)) for status, body in through.answers]
        assert proxied == [(status, document(body)) for status, body in direct]
        return proxied


def document(body: bytes) -> object:
    """The answer's content, each number as it is written."""
    try:
        return json.loads(body, parse_float=str, parse_int=str)
    except ValueError:
        return body


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """MLServer and a proxy in front of it, started without a configuration file."""
    folder: Path = tmp_path_factory.mktemp("models")
    async with (
        mlserver(train(folder)) as server,
        pillion("--upstream", server.url, "--protocol", "open-inference") as proxied,
    ):
        yield Pair(server.url, proxied.url)


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
