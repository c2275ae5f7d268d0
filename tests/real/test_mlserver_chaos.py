"""Pillion before a real MLServer that is killed, stopped, restarted, and managed by somebody else as well."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from proxy.demo.models import sample_images
from proxy.demo.processes import free_ports
from tests.support.mlserver import FOREST, LOGISTIC, MLServer, infer_body, mlserver, train
from tests.support.sidecar import Sidecar, pillion
from tests.support.waiting import until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

BODY = infer_body([image for image, _ in sample_images()][:1], "1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("models"))


class Site:
    """One MLServer, restarted at the same ports at will, and the sidecars in front of it."""

    def __init__(self, models: Path, folder: Path, client: aiohttp.ClientSession) -> None:
        self.models = models
        self.folder = folder
        self.client = client
        http, grpc = free_ports(2)
        self.ports = (http, grpc)
        self.url = f"http://127.0.0.1:{http}"
        self._server = AsyncExitStack()
        self.sidecars = AsyncExitStack()

    async def start(self) -> MLServer:
        """A server with nothing loaded, in place of the one before."""
        await self._server.aclose()
        return await self._server.enter_async_context(mlserver(self.models, is_empty=True, ports=self.ports))

    async def sidecar(self, loading: str) -> Sidecar:
        """One more Pillion, which knows the models."""
        config = self.folder / "pillion.yaml"
        config.write_text(
            f"version: 1\nupstreams: {{model: {{protocol: open-inference, http: ['{self.url}']}}}}\n"
            f"loading: {{control: {{every: 200ms}}, {loading}}}\n"
        )
        sidecar = await self.sidecars.enter_async_context(pillion("-c", str(config)))
        await until_told(lambda: self.knows(sidecar))
        return sidecar

    async def close(self) -> None:
        await self.sidecars.aclose()
        await self._server.aclose()

    async def ask(self, sidecar: Sidecar, model: str, **headers: str) -> int:
        target, headers = (
            f"{sidecar.url}/v2/models/{model}/infer",
            {"Content-Type": "application/json", **headers},
        )
        async with self.client.post(target, data=BODY, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def ask_all(self, *asked: tuple[Sidecar, str]) -> list[int]:
        """Several at once."""
        return list(await asyncio.gather(*(self.ask(sidecar, model) for sidecar, model in asked)))

    async def states(self, sidecar: Sidecar) -> dict[str, str]:
        async with self.client.get(f"{sidecar.admin}/models") as answer:
            return {model["name"]: model["state"] for model in (await answer.json())["models"]}

    async def knows(self, sidecar: Sidecar) -> bool:
        return {FOREST, LOGISTIC} <= (await self.states(sidecar)).keys()

    async def is_in(self, sidecar: Sidecar, model: str, state: str) -> bool:
        return (await self.states(sidecar))[model] == state

    async def has_loaded(self, sidecar: Sidecar, count: int) -> bool:
        return await self.loads(sidecar) == count

    async def loads(self, sidecar: Sidecar) -> int:
        async with self.client.get(f"{sidecar.admin}/models") as answer:
            return sum(model["loads_measured"] for model in (await answer.json())["models"])


@asynccontextmanager
async def site(models: Path, folder: Path) -> AsyncIterator[Site]:
    async with aiohttp.ClientSession() as client:
        made = Site(models, folder, client)
        try:
            yield made
        finally:
            await made.close()


async def test_killed_during_a_load_and_started_again(models: Path, tmp_path: Path) -> None:
    async with site(models, tmp_path) as here:
        server = await here.start()
        sidecar = await here.sidecar("mode: demand")
        os.kill(server.pid, signal.SIGSTOP)  # or the load might end before anybody has seen it
        async with asyncio.TaskGroup() as group:
            client = group.create_task(here.ask(sidecar, FOREST))
            await until_told(lambda: here.is_in(sidecar, FOREST, "loading"))
            os.kill(server.pid, signal.SIGKILL)
        assert client.result() in {502, 503}
        await here.start()
        await until_told(lambda: here.is_in(sidecar, FOREST, "unloaded"))
        assert await here.ask_all((sidecar, FOREST), (sidecar, LOGISTIC)) == [200, 200]


async def test_stopped_and_continued(models: Path, tmp_path: Path) -> None:
    async with site(models, tmp_path) as here:
        server = await here.start()
        sidecar = await here.sidecar(
            f"mode: demand, models: {{{LOGISTIC}: {{load_time: 1s}}, {FOREST}: {{load_time: 1s}}}}"
        )
        assert await here.ask(sidecar, LOGISTIC) == 200
        os.kill(server.pid, signal.SIGSTOP)
        try:
            late = await asyncio.gather(
                here.ask(sidecar, FOREST, **{"X-Request-Timeout": "2s"}),
                here.ask(sidecar, LOGISTIC, **{"X-Request-Timeout": "2s"}),
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert set(late) <= {503, 504}
        assert await here.ask(sidecar, LOGISTIC) == 200
        await until_told(lambda: here.is_in(sidecar, FOREST, "ready"))
        assert await here.ask(sidecar, FOREST) == 200


async def test_unloaded_behind_our_back(models: Path, tmp_path: Path) -> None:
    async with site(models, tmp_path) as here:
        await here.start()
        sidecar = await here.sidecar("mode: demand")
        for _ in range(3):
            assert await here.ask(sidecar, LOGISTIC) == 200
            async with here.client.post(f"{here.url}/v2/repository/models/{LOGISTIC}/unload") as answer:
                assert answer.status == 200


async def test_a_restart_brings_back_what_was_used(models: Path, tmp_path: Path) -> None:
    async with site(models, tmp_path) as here:
        await here.start()
        sidecar = await here.sidecar("mode: predictive")
        assert [await here.ask(sidecar, model) for model in (FOREST, LOGISTIC)] == [200, 200]
        before = await here.loads(sidecar)
        await here.start()
        await until_told(partial(here.has_loaded, sidecar, before + 2))
        assert [await here.ask(sidecar, model) for model in (FOREST, LOGISTIC)] == [200, 200]


async def test_two_sidecars_do_not_fight(models: Path, tmp_path: Path) -> None:
    idle_s = 2.0
    now = asyncio.get_running_loop().time
    async with site(models, tmp_path) as here:
        await here.start()
        fits = f"mode: demand, max_models: 2, idle_unload: {idle_s}s"
        sidecars = await here.sidecar(fits), await here.sidecar(fits)
        before, began, asked_at = [0, 0], now(), -inf
        while now() - began < 2 * idle_s:
            last_at, asked_at = asked_at, now()
            answers = await here.ask_all(*zip(sidecars, (FOREST, LOGISTIC), strict=True))
            assert answers == [200, 200]
            if now() - last_at > idle_s / 2:  # it may truly have idled, on a machine that stood still
                before, began = [await here.loads(each) for each in sidecars], now()
            await asyncio.sleep(0.1)
        assert [await here.loads(each) for each in sidecars] == before


async def test_two_sidecars_that_want_one_place_take_turns(models: Path, tmp_path: Path) -> None:
    async with site(models, tmp_path) as here:
        await here.start()
        sizes = f"models: {{{LOGISTIC}: {{load_time: 500ms}}, {FOREST}: {{load_time: 500ms}}}}"
        one = f"mode: demand, max_models: 1, {sizes}"
        first, second = await here.sidecar(one), await here.sidecar(one)
        answers: list[int] = []
        for _ in range(20):
            answers += await here.ask_all((first, FOREST), (second, LOGISTIC))
            await asyncio.sleep(0.1)
        assert answers.count(200) >= 36, "one answer in ten may be the backend's own 404"
