"""A loader, the models of its house, and a backend that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

import pytest

from proxy.loading.actions import Report
from proxy.loading.history import History
from proxy.loading.loader import Loader
from proxy.timing import NEVER, Deadline
from tests.integration.loading.clients import Client
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.loading.worlds import GIB, model, policy

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from proxy.loading.control.base import ControlError
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.slot import State


__all__ = ("WALL", "Backend", "Events", "House", "Open", "fails", "settle")


WALL = 1_700_000_000.0


class Backend:
    """A control whose loads and unloads end when the test says; it is also the way to reach it."""

    protocol = "fake"
    can_unload = True
    can_cancel = True

    def __init__(self, *names: str) -> None:
        self.states: dict[str, str] = dict.fromkeys(names, "unloaded")
        self.asked: list[str] = []
        self.pending: dict[str, asyncio.Future[None]] = {}
        self.listing_fails: Exception | None = None
        self.warm_fails: ControlError | None = None
        self.has_control = True
        self.is_closed = False

    async def connect(self) -> Backend | None:
        self.asked.append("connect")
        if self.listing_fails:
            raise self.listing_fails
        return self if self.has_control else None

    async def warm(self, name: str) -> None:
        self.asked.append(f"warm {name}")
        if self.warm_fails:
            raise self.warm_fails

    async def close(self) -> None:
        self.is_closed = True

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        self.asked.append("list")
        if self.listing_fails:
            raise self.listing_fails
        return {name: Report(state) for name, state in self.states.items()}  # type: ignore[arg-type]  # states

    async def load(self, name: str) -> int:
        await self._step("load", name)
        self.states[name] = "ready"
        return 0

    async def unload(self, name: str) -> None:
        await self._step("unload", name)
        self.states[name] = "unloaded"

    def is_not_ready(self, status: int, body: bytes) -> bool:
        return status == 404 and body == b"cold"

    async def _step(self, verb: str, name: str) -> None:
        self.asked.append(f"{verb} {name}")
        future = self.pending[f"{verb} {name}"] = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError:
            self.asked.append(f"cancelled {name}")
            raise

    async def end(self, step: str, error: Exception | None = None) -> None:
        """Let a load or unload end, once it has begun."""
        await until(lambda: step in self.pending)
        future = self.pending.pop(step)
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await settle()


class Events:
    """What was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def managed(self, name: str) -> None:
        pass

    def loaded(self, name: str, cause: str, result: str, span_s: float) -> None:
        self.seen.append(("loaded", name, cause, result))

    def cold(self, name: str) -> None:
        self.seen.append(("cold", name))

    def waited(self, name: str, span_s: float) -> None:
        self.seen.append(("waited", name))


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class House:
    """A loader, its backend, its clock, and the clients that wait."""

    def __init__(self, *names: str, places: int = 2, past: History | None = None, **changes: object) -> None:
        names = names or ("a", "b", "c")
        self.clock = FakeClock()
        self.backend = Backend(*names)
        self.events = Events()
        self.renewed: list[str] = []
        self.on_renewed: Callable[[str], None] = self.renewed.append
        self.policy: LoadingPolicy = policy(
            budget=places * GIB, models={name: model() for name in names}, **changes
        )
        self.history = past or History()
        self.loader = Loader(
            self.policy,
            self.history,
            self.backend,
            self.events,
            clock=self.clock,
            wall=lambda: WALL,
            renewed=self._renew,
            reached=lambda: self.events.seen.append(("reached",)),
        )
        self.client = Client(self.loader, self.clock)
        self.clients: list[asyncio.Task[None]] = []

    def _renew(self, name: str) -> None:
        self.on_renewed(name)

    async def start(self) -> House:
        await self.loader.start()
        await settle()
        return self

    async def request(self, name: str, within: float = 0.0) -> asyncio.Task[None]:
        """A client asks; the task ends when it may go on."""
        deadline = Deadline(self.clock.now() + within) if within else NEVER
        task = asyncio.get_running_loop().create_task(self.client.ask(name, deadline))
        self.clients.append(task)
        await settle()
        return task

    async def make_ready(self, name: str) -> None:
        client = await self.request(name)
        await self.backend.end(f"load {name}")
        await client
        self.client.end(name, 0.1)

    async def pass_time(self, span: float) -> None:
        self.clock.advance(span)
        await settle()

    def state(self, name: str) -> State:
        return self.loader.planner.state.slot(name).state


Open = Callable[..., Coroutine[object, object, House]]


async def fails(client: asyncio.Task[None], kind: type[ProxyError]) -> ProxyError:
    with pytest.raises(kind) as caught:
        await client
    return caught.value
