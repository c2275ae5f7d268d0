"""`pillion explain`: a configuration's dry run, and what a running proxy says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.options import DemoOptions, ModelSpec
from proxy.demo.server import DemoServer, start
from tests.support.sidecar import pillion, run_pillion
from tests.support.waiting import until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
upstreams: {{model: {{protocol: kserve-v1, http: ['{url}']}}}}
models: {{'*': {{cache: {{mode: deterministic}}}}}}
loading: {{mode: demand, control: {{every: 50ms}}, models: {{b: {{load_time: 2s}}}}}}
"""
PATH = "/v1/models/a:predict"
BODY = '{"instances": [[1, 2]]}'


@pytest.fixture
async def backend() -> AsyncIterator[DemoServer]:
    server = await start(DemoOptions(models=(ModelSpec("a", "sum"), ModelSpec("b", "sum", load_s=0.05))))
    yield server
    await server.close()


async def test_a_file_is_explained_without_a_backend(tmp_path: Path) -> None:
    config = tmp_path / "pillion.yaml"
    config.write_text(CONFIG.format(url="http://127.0.0.1:1"))
    (tmp_path / "body.json").write_text(BODY)
    request = ("POST", f"http://api{PATH}", "-H", "X-Tenant: t", "-d", f"@{tmp_path / 'body.json'}")
    code, out, _ = await run_pillion("explain", "-c", str(config), *request, "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert (found["cache"]["verdict"], found["batch"]["items"]) == ("miss", 1)
    assert found["batch"]["key"]["headers"]["host"] == "api"
    assert found["batch"]["key"]["headers"]["x-tenant"].startswith("blake2:")
    code, out, _ = await run_pillion("explain", "-c", str(config), *request)
    assert (code, out.splitlines()[-1]) == (0, "=> batched with requests of the same key")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("GET", "nowhere"), 2, "a URL is"),
        (("GET", "/", "-H", "wrong"), 2, "a header field is"),
        (("GET", "/", "-d", "@/does/not/exist"), 2, "No such file"),
    ],
)
async def test_what_cannot_be_explained(arguments: tuple[str, ...], code: int, words: str) -> None:
    found, _, err = await run_pillion("explain", "--upstream", "http://127.0.0.1:1", *arguments)
    assert (found, words in err) == (code, True)


async def test_a_broken_file_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pillion.yaml").write_text("version: 2\n")
    code, _, err = await run_pillion("explain", "-c", str(tmp_path / "pillion.yaml"), "GET", "/")
    assert (code, "version" in err) == (3, True)


async def test_a_running_proxy_says_what_it_knows_and_sends_nothing(
    backend: DemoServer, tmp_path: Path
) -> None:
    config = tmp_path / "pillion.yaml"
    config.write_text(CONFIG.format(url=backend.url))
    async with pillion("-c", str(config)) as sidecar, aiohttp.ClientSession() as client:
        await told(client, sidecar.admin)
        host = sidecar.url.removeprefix("http://")  # what an answer depends on includes these
        like = ("-H", f"Host: {host}", "-H", "Accept: */*", "-d", BODY)
        ask = ("explain", "--admin", sidecar.admin, "POST")
        code, out, _ = await run_pillion(*ask, "/v1/models/b:predict", *like)
        assert code == 0
        assert "=> held for about" in out
        code, out, _ = await run_pillion(*ask, PATH, *like, "--format", "json")
        assert json.loads(out)["cache"]["verdict"] == "miss"
        assert not backend.stats.calls
        headers = {"Content-Type": "application/json"}
        async with client.post(f"{sidecar.url}{PATH}", data=BODY, headers=headers) as answer:
            assert answer.status == 200
        code, out, _ = await run_pillion(*ask, PATH, *like, "--format", "json")
        assert json.loads(out)["outcome"] == "answered from memory"
        code, _, err = await run_pillion(*ask, "nowhere")
        assert (code, "a URL is" in err) == (2, True)
    code, _, err = await run_pillion(*ask, PATH)
    assert (code, "no answer" in err) == (1, True)


async def told(client: aiohttp.ClientSession, admin: str) -> None:
    """Return once the proxy knows the backend's models."""

    async def are_listed() -> bool:
        async with client.get(f"{admin}/models") as answer:
            return bool((await answer.json())["models"])

    await until_told(are_listed)
