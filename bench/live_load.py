"""Driving a server by a script of requests, loading its models by hand, and writing down a past.

`drive` owns one task for each request and waits for all of them. `Loads.again_and_again` owns one task that
ends with its block."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import msgspec

from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.policy import LoadingPolicy
from proxy.loading.simulate import Model, Simulation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bench.live_traffic import Shot

__all__ = ("Answer", "Loads", "drive", "past")

RUN_S = 0.005
PAUSE_S = 1.0
LOOK_S = 0.2


class Answer(NamedTuple):
    """What became of one request; its latency counts from the instant it was planned for. Status 0: none."""

    shot: Shot
    status: int
    latency_s: float


async def drive(url: str, shots: Sequence[Shot], body: bytes, *, begin_in_s: float) -> list[Answer]:
    """Send each request at its instant, whatever the server does."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + begin_in_s
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json"}

    async def one(session: aiohttp.ClientSession, shot: Shot) -> Answer:
        due = begin + shot.at_s
        await asyncio.sleep(due - loop.time())
        try:
            async with session.post(
                f"{url}/v2/models/{shot.model}/infer", data=body, headers=headers
            ) as answer:
                await answer.read()
                return Answer(shot, answer.status, loop.time() - due)
        except (aiohttp.ClientError, OSError):
            return Answer(shot, 0, loop.time() - due)

    async with aiohttp.ClientSession(connector=connector) as session:
        return list(await asyncio.gather(*(one(session, shot) for shot in shots)))


def past(shots: Sequence[Shot], *, begin_in_s: float, load_s: float, size: int) -> bytes:
    """The snapshot of a history that has seen `shots`, which end `begin_in_s` seconds from now."""
    began = time.time() + begin_in_s  # noqa: TID251  a snapshot holds the wall's instants
    history = History()
    policy = LoadingPolicy().model_copy(update={"mode": "demand"})
    simulation = Simulation(Planner(policy, history), lambda _name: Model(load_s, size))
    simulation.run([(began + shot.at_s, shot.model, RUN_S) for shot in shots])
    return msgspec.json.encode(history.dump())


class Loads:
    """Loads and unloads on somebody's word."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def by_hand(self, url: str, model: str, *, is_undone: bool = False) -> None:
        """Load at the server's own port, then perhaps unload."""
        for verb in ("load", "unload") if is_undone else ("load",):
            async with self._session.post(f"{url}/v2/repository/models/{model}/{verb}", json={}) as answer:
                await answer.read()

    async def by_admin(self, admin: str, model: str, *, is_undone: bool = False) -> None:
        """Have Pillion load, and then perhaps unload."""
        await self._ask(f"{admin}/models/{model}/load")
        await self._until(admin, model, "ready")
        if is_undone:
            await self._ask(f"{admin}/models/{model}/unload")
            await self._until(admin, model, "unloaded")

    async def until_listed(self, admin: str, model: str) -> None:
        """Return once Pillion has found out that `model` is not loaded."""
        await self._until(admin, model, "unloaded")

    @asynccontextmanager
    async def again_and_again(
        self, cycle: Callable[..., Awaitable[None]], url: str, model: str
    ) -> AsyncIterator[None]:
        """Load and unload `model` for as long as the block lasts."""

        async def work() -> None:
            while not is_over.is_set():
                await cycle(url, model, is_undone=True)
                await asyncio.sleep(PAUSE_S)

        is_over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            try:
                yield
            finally:
                is_over.set()

    async def _ask(self, url: str) -> None:
        async with self._session.post(url) as answer:
            await answer.read()

    async def _until(self, admin: str, model: str, state: str) -> None:
        while True:
            async with self._session.get(f"{admin}/models") as answer:
                models = (await answer.json())["models"]
            if any(each["name"] == model and each["state"] == state for each in models):
                return
            await asyncio.sleep(LOOK_S)
