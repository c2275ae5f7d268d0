"""Models loaded on demand and ahead, through a running proxy in front of the demo server."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.options import DemoOptions, ModelSpec
from proxy.demo.server import DemoServer, start
from tests.support.sidecar import Sidecar, pillion, run_pillion
from tests.support.waiting import until, until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow

MODELS = tuple(ModelSpec(name, "sum", load_s=0.05) for name in ("a", "b", "c"))
BODY = {"instances": [[1, 2]]}


@asynccontextmanager
async def served(
    path: Path, loading: str, rest: str = "", protocol: str = "kserve-v1"
) -> AsyncIterator[tuple[DemoServer, Sidecar]]:
    """A demo server with three cold models, and a proxy with this `loading` section in front of it."""
    backend = await start(DemoOptions(models=MODELS))
    config = path / "pillion.yaml"
    config.write_text(
        f"version: 1\n"
        f"upstreams: {{model: {{protocol: {protocol}, http: ['{backend.url}']}}}}\n"
        f"loading: {{{loading}, control: {{every: 50ms}}}}\n{rest}"
    )
    try:
        async with pillion("-c", str(config)) as sidecar, aiohttp.ClientSession() as client:
            await listed(client, sidecar)
            yield backend, sidecar
    finally:
        await backend.close()


async def listed(client: aiohttp.ClientSession, sidecar: Sidecar) -> None:
    """Return once the proxy knows the backend's models."""

    async def are_listed() -> bool:
        async with client.get(f"{sidecar.admin}/models") as answer:
            return bool((await answer.json())["models"])

    await until_told(are_listed)


async def ask(
    client: aiohttp.ClientSession, sidecar: Sidecar, model: str, **headers: str
) -> aiohttp.ClientResponse:
    async with client.post(f"{sidecar.url}/v1/models/{model}:predict", json=BODY, headers=headers) as answer:
        await answer.read()
        return answer


async def test_cold_models_are_loaded_within_the_budget(tmp_path: Path) -> None:
    sizes = "models: {a: {size: 1GiB}, b: {size: 1GiB}, c: {size: 1GiB}}"
    async with served(tmp_path, f"mode: demand, budget: 2GiB, {sizes}") as (backend, sidecar):
        async with aiohttp.ClientSession() as client:
            for model in ("a", "b", "c", "a", "a"):
                assert (await ask(client, sidecar, model)).status == 200
            async with client.get(f"{sidecar.admin}/metrics") as page:
                text = await page.text()
        assert 'pillion_model_loads_total{cause="demand",model="a",result="ok"}' in text
        assert 'pillion_cold_starts_total{model="c"} 1.0' in text
        assert 'pillion_model_budget_bytes{kind="used"} 2.147483648e+09' in text
        assert sum(slot.state == "READY" for slot in backend.service.repository.slots.values()) == 2
        assert backend.stats.unloads


async def test_observing_leaves_the_backend_alone(tmp_path: Path) -> None:
    async with served(tmp_path, "mode: observe") as (backend, sidecar), aiohttp.ClientSession() as client:
        assert (await ask(client, sidecar, "a")).status == 404
        assert not backend.stats.unloads
        assert {slot.state for slot in backend.service.repository.slots.values()} == {"UNAVAILABLE"}


async def test_who_cannot_be_served_in_time_is_told_when_or_gets_a_fallback(tmp_path: Path) -> None:
    slow = "mode: demand, preload: [a], models: {b: {load_time: 60s}, c: {load_time: 60s}}"
    rest = "models: {c: {fallback: [a]}}\n"
    async with served(tmp_path, slow, rest) as (_, sidecar), aiohttp.ClientSession() as client:
        assert (await ask(client, sidecar, "a")).status == 200
        late = await ask(client, sidecar, "b", **{"X-Request-Timeout": "30s"})
        assert (late.status, late.headers["Retry-After"]) == (503, "60")
        instead = await ask(client, sidecar, "c", **{"X-Request-Timeout": "30s"})
        assert (instead.status, instead.headers["X-Model-Fallback"]) == (200, "a")


@pytest.mark.parametrize(
    ("protocol", "path"),
    [("openai", "/v1/chat/completions"), ("ollama", "/v1/completions"), ("ollama", "/api/chat")],
)
async def test_a_model_named_in_the_body_is_loaded(tmp_path: Path, protocol: str, path: str) -> None:
    async with served(tmp_path, "mode: demand", protocol=protocol) as (backend, sidecar):
        async with aiohttp.ClientSession() as client:
            asked = {"model": "a", "messages": []}
            async with client.post(f"{sidecar.url}{path}", json=asked) as answer:
                await answer.read()
        assert backend.service.repository.slots["a"].state == "READY", "whatever it answered"


async def test_a_restarted_backend_is_noticed_by_its_answers(tmp_path: Path) -> None:
    async with served(tmp_path, "mode: demand") as (backend, sidecar), aiohttp.ClientSession() as client:
        assert (await ask(client, sidecar, "a")).status == 200
        for _ in range(3):
            backend.service.repository.slots["a"].state = "UNAVAILABLE"
            answers = await asyncio.gather(*(ask(client, sidecar, "a") for _ in range(20)))
            assert {answer.status for answer in answers} == {200}, (
                "all that were under way, not the first alone"
            )


async def test_the_command_line_lists_loads_and_explains(tmp_path: Path) -> None:
    async with served(tmp_path, "mode: demand") as (backend, sidecar):
        admin = ("--admin", sidecar.admin)
        code, out, _ = await run_pillion("models", "load", "b", *admin)
        assert (code, json.loads(out)) == (0, {"model": "b", "state": "loading"})
        await until(lambda: backend.service.repository.slots["b"].state == "READY")
        code, out, _ = await run_pillion("models", "ls", *admin)
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == ["MODEL", "a", "b", "c", "~"]
        assert "~" in out.splitlines()[1], "nobody has said how large a is"
        code, out, _ = await run_pillion("models", "why", "b", *admin)
        assert (code, "manual: asked for" in out) == (0, True)
        assert (await run_pillion("models", "pin", "b", *admin))[0] == 0
        code, _, err = await run_pillion("models", "unload", "a", *admin)
        assert (code, "not loaded" in err) == (1, True)
        code, _, err = await run_pillion("models", "load", "ghost", *admin)
        assert (code, "no model is named ghost" in err) == (1, True)
        assert (await run_pillion("models", "ls", "b", *admin))[0] == 2


async def test_replay_scores_a_recorded_history(tmp_path: Path) -> None:
    history = tmp_path / "history.json"
    kept = f"mode: demand, history: {{file: {history}}}"
    async with served(tmp_path, kept) as (_, sidecar), aiohttp.ClientSession() as client:
        for model in ("a", "b"):
            await ask(client, sidecar, model)
        async with client.post(f"{sidecar.admin}/drain") as answer:
            assert answer.status == 202
        assert await sidecar.wait() == 0
    config = str(tmp_path / "pillion.yaml")
    code, out, _ = await run_pillion("replay", str(history), "-c", config, "--plot", str(tmp_path / "p.svg"))
    assert code == 0
    assert "2 requests for 2 models" in out
    assert "pillion, predictive" in out
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert (await run_pillion("replay", config, "-c", config))[0] == 1
    code, out, _ = await run_pillion("replay", str(history), "-c", config, "--set", "loading.budget=1KiB")
    assert "2 requests were for models that never fit into 1KiB" in out
