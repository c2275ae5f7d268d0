"""Loaders in front of a server that misbehaves, over real sockets: clients are served or told, and nothing is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from proxy.errors import LoadFailed, ModelLoading, ProxyError
from proxy.loading.control.connect import Connector
from proxy.loading.history import History
from proxy.loading.loader import Loader
from proxy.loading.policy import ColdPolicy
from proxy.loading.slot import State
from proxy.timing import NEVER, Deadline
from tests.integration.loading.clients import Client
from tests.integration.loading.dialects import Triton, running
from tests.integration.loading.house import Events, settle
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.loading.worlds import GIB, model, policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

EVERY_S = 10.0


class Place(NamedTuple):
    url: str
    path: str = ""


class Wild(Triton):
    """Triton with faults. `loses` are verbs whose reply never arrives, `is_down` answers nobody, `hung` makes
    loads wait, and `leaks` keeps the memory of what was unloaded, of which there is room for three models."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.loses: list[str] = []
        self.forgets: list[str] = []
        self.is_down = False
        self.leaks = False
        self.held = 0
        self.hung: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.Response:
        verb = request.path.rpartition("/")[2]
        if verb == "load" and self.hung is not None:
            self.asked.append("hung")
            await self.hung.wait()
        if self.is_down:
            return self.hang_up(request)
        if verb in self.forgets:
            self.forgets.remove(verb)
            return self.hang_up(request)
        answer = await super().handle(request)
        if verb in self.loses:
            self.loses.remove(verb)
            return self.hang_up(request)
        return answer

    def hang_up(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        raise ConnectionResetError

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:  # noqa: ANN401 - a dialect's
        verb, name = path.rpartition("/")[2], path.rpartition("/")[0].rpartition("/")[2]
        if verb == "load" and name in self.states and self.held >= 3:
            return 500, {"error": "CUDA out of memory"}
        if verb == "load":
            self.held += 1
        if verb == "unload" and not self.leaks and self.states.get(name) == "ready":
            self.held -= 1
        return super().answer(method, path, query, body)

    def restart(self) -> None:
        self.states = dict.fromkeys(self.states, "unloaded")
        self.is_down = False
        self.held = 0

    def count(self, verb: str) -> int:
        return sum(line.endswith(verb) for line in self.asked)


class Home:
    """A server and its loaders, which share a clock."""

    def __init__(self, server: Wild, url: str, loaders: int, **changes: Any) -> None:  # noqa: ANN401 - any field
        self.server = server
        self.clock = FakeClock()
        cold = ColdPolicy().model_copy(update={"max_wait": 1e6})
        declared = {name: model() for name in server.states}
        settings = policy(**{"budget": 2 * GIB, "models": declared, "cold": cold, **changes})
        self.loaders = [
            Loader(
                settings,
                History(),
                Connector(settings, [Place(url)]),
                Events(),
                clock=self.clock,
                wall=lambda: 1_700_000_000.0,
                renewed=lambda _name: None,
                reached=lambda: None,
            )
            for _ in range(loaders)
        ]
        self.askers = [Client(loader, self.clock) for loader in self.loaders]
        self.clients: list[asyncio.Task[None]] = []

    def request(self, name: str, index: int = 0) -> asyncio.Task[None]:
        """A client of one loader; done when it may go on."""
        client = asyncio.get_running_loop().create_task(self._wait(self.askers[index], name))
        self.clients.append(client)
        return client

    async def _wait(self, asker: Client, name: str) -> None:
        await asker.ask(name, NEVER)
        asker.end(name)

    async def pass_time(self, span_s: float) -> None:
        """Second by second, so that what the server says is heard in between."""
        for _ in range(int(span_s)):
            self.clock.advance(1.0)
            await asyncio.sleep(0.002)

    def state(self, name: str, index: int = 0) -> State:
        return self.loaders[index].planner.state.slot(name).state


@asynccontextmanager
async def home(*names: str, loaders: int = 1, **changes: Any) -> AsyncIterator[Home]:  # noqa: ANN401 - any field
    server = Wild(*(names or ("a", "b", "c", "d")))
    async with running(server) as (_, url):
        made = Home(server, url, loaders, **changes)
        for loader in made.loaders:
            await loader.start()
            await until(partial(loader.is_managed, next(iter(server.states))))
        try:
            yield made
        finally:
            if server.hung is not None:
                server.hung.set()
            for loader in made.loaders:
                await loader.stop()
            for client in made.clients:
                client.cancel()
            await asyncio.gather(*made.clients, return_exceptions=True)


async def fails(client: asyncio.Task[None], kind: type[ProxyError]) -> str:
    with pytest.raises(kind) as caught:
        await client
    return str(caught.value)


async def test_a_load_whose_reply_was_lost_serves_those_who_wait() -> None:
    async with home() as here:
        here.server.loses = ["load"]
        await asyncio.gather(*(here.request("a") for _ in range(3)))
        assert here.server.count("/load") == 1
        assert here.state("a") is State.READY


async def test_a_load_that_was_never_heard_is_asked_for_again() -> None:
    async with home() as here:
        here.server.forgets = ["load"]
        client = here.request("a")
        await until(lambda: here.state("a") is State.UNLOADED and not here.server.forgets)
        assert not client.done()
        here.clock.advance(1.1)
        await client
        assert here.server.count("/load") == 1


async def test_an_unload_whose_reply_was_lost_has_made_room() -> None:
    async with home(budget=GIB) as here:
        await here.request("a")
        here.server.loses = ["unload"]
        await here.request("b")
        assert here.server.states["a"] == "unloaded"
        assert here.server.count("/unload") == 1


async def test_a_load_that_hangs_holds_up_nobody_else() -> None:
    async with home() as here:
        await here.request("a")
        here.server.hung = asyncio.Event()
        client = here.request("b")
        await until(lambda: "hung" in here.server.asked)
        for _ in range(30):
            assert here.request("a") is not None
        await asyncio.gather(*here.clients[2:])
        here.clock.advance(601)
        assert "no answer for 600 s" in await fails(client, LoadFailed)
        here.server.hung.set()
        here.server.hung = None
        await until(lambda: here.state("b") is State.UNLOADED)
        here.clock.advance(5)
        await here.request("b")


async def test_a_backend_that_dies_during_a_load_is_told_at_once_and_comes_back() -> None:
    async with home() as here:
        await here.request("a")
        here.server.hung = asyncio.Event()
        client = here.request("b")
        await until(lambda: "hung" in here.server.asked)
        here.server.is_down = True
        here.server.hung.set()
        here.server.hung = None
        assert "Server disconnected" in await fails(client, LoadFailed)
        here.server.restart()
        await here.pass_time(EVERY_S + 1)
        await until(lambda: here.state("a") is State.UNLOADED)
        await asyncio.gather(here.request("a"), here.request("b"))


async def test_memory_that_is_never_given_back_fails_loads_and_keeps_what_is_there() -> None:
    async with home("a", "b", "c", "d", "e") as here:
        here.server.leaks = True
        for name in "abc":
            await here.request(name)
        client = here.request("d")
        await until(client.done)  # told, not left waiting
        assert "out of memory" in await fails(client, LoadFailed)
        loads = here.server.count("/load")
        await here.pass_time(60)
        assert here.server.count("/load") == loads, "nobody waits: nothing is tried"
        assert here.loaders[0].planner.state.residency.used <= 2 * GIB
        here.server.restart()
        await here.pass_time(EVERY_S + 1)
        await here.request("d")


async def test_two_loaders_share_one_server() -> None:
    async with home(loaders=2) as here:
        await asyncio.gather(here.request("a", 0), here.request("b", 1))
        await here.pass_time(EVERY_S + 1)
        await until(lambda: here.state("b", 0) is here.state("a", 1) is State.READY)
        await asyncio.gather(here.request("b", 0), here.request("a", 1))
        assert here.server.count("/load") == 2
        assert here.loaders[0].unload("a") == ""
        await until(lambda: here.server.states["a"] == "unloaded")
        await here.pass_time(EVERY_S + 1)
        await until(lambda: here.state("a", 1) is State.UNLOADED)
        await here.request("a", 1)
        assert here.server.count("/load") == 3


async def test_what_the_other_unloaded_a_moment_ago_is_loaded_again_for_who_asks() -> None:
    async with home(loaders=2) as here:
        await here.request("a", 0)
        await here.pass_time(EVERY_S + 1)
        await until(lambda: here.state("a", 1) is State.READY)
        assert here.loaders[1].unload("a") == ""
        await until(lambda: here.server.states["a"] == "unloaded")
        slot = here.askers[0].slot("a")
        assert here.loaders[0].is_lost(slot, 404, b"Model a not found")
        await here.loaders[0].ready(slot, NEVER)
        assert here.server.count("/load") == 2


async def test_a_client_with_little_time_is_told_when_and_the_load_goes_on() -> None:
    async with home() as here:
        with pytest.raises(ModelLoading) as caught:
            await here.askers[0].ask("a", Deadline(here.clock.now() + 1))
        assert caught.value.retry_after_s == 10.0
        await until(lambda: here.state("a") is State.READY)


async def test_settled_requests_leave_nothing_behind() -> None:
    async with home() as here:
        for name in "abcd" * 2:
            await here.request(name)
        await settle()
        planner = here.loaders[0].planner
        assert len(planner.state.queue) == 0
        assert {slot.in_flight for slot in planner.state.residency.slots.values()} == {0}
