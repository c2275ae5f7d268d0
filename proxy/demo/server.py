"""The demo server: owns its listening socket, its connections, its timer and its slots; ends with `close`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from proxy.demo.connection import Connection
from proxy.demo.executor import Executor, Job
from proxy.demo.faults import Fault, FaultPlan, FaultSyntaxError, parse
from proxy.demo.finetimer import FineTimer
from proxy.demo.messages import Answer, ApiError, Inference, Request, error_answer
from proxy.demo.options import DemoOptions
from proxy.demo.service import Service
from proxy.demo.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("DemoServer", "start")

BACKLOG = 4096

_TURNS = 3  # of the loop, until who was accepted last is connected, and can be dropped


class DemoServer:
    """One running server; made by `start`."""

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        self.stats = Stats()
        self.faults = FaultPlan(options.faults)
        self.service = Service(options, self.stats, self.faults)
        self.timer = FineTimer(asyncio.get_running_loop())
        self.port = 0
        self.url = ""
        self._slots = Executor(self.timer, options.parallelism, self._dropped)
        self._loader = Executor(self.timer, options.load_parallelism, lambda: None)
        self._loading: dict[str, list[Callable[[], object]]] = {}
        self._connections: set[Connection] = set()
        self._random = random.Random(options.seed)
        self._costs_nothing = options.fixed_s == options.item_s == 0
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Bind and accept; port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{host}:{self.port}"

    async def close(self) -> None:
        """Stop accepting, drop every connection, forget work in progress."""
        if self._server is not None:
            self._server.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for connection in tuple(self._connections):
            connection.abort()
        if self._server is not None:
            await self._server.wait_closed()
        await asyncio.sleep(0)  # aborted transports report their loss in the next turn
        self.timer.close()

    # ------------------------------------------------------------- connections
    def connected(self, connection: Connection) -> None:
        """A client came."""
        self._connections.add(connection)
        self.stats.connections += 1
        self.stats.open_connections += 1

    def disconnected(self, connection: Connection) -> None:
        """A client left."""
        self._connections.discard(connection)
        self.stats.open_connections -= 1

    def due_faults(self, request: Request) -> list[Fault]:
        """The faults this request meets: the server's and its own. Faults it cannot spell are ignored."""
        due = self.faults.due(request.path.decode("latin-1")) if self.faults.faults else []
        wish = request.header(b"demo-fault")
        if wish is not None:
            with contextlib.suppress(FaultSyntaxError):
                due = due + parse(wish.decode("latin-1"))
        for fault in due:
            self.stats.faults[fault.name] += 1
        return due

    # ------------------------------------------------------------- inference
    def infer(self, request: Request, inference: Inference, done: Callable[[Answer], object]) -> Job | None:
        """Compute `inference` when its model is loaded and a slot is free; None when it is done already."""
        slot = self.service.repository.slots.get(inference.model)
        if slot is not None and slot.state != "READY":
            self.load(inference.model, lambda: self.infer(request, inference, done))
            return None
        if self._costs_nothing:
            done(self._run(request, inference))
            return None
        job = self._slots.submit(
            self._cost_s(inference.items), lambda: self._finish(request, inference, done)
        )
        self._show_slots()
        return job

    def _finish(self, request: Request, inference: Inference, done: Callable[[Answer], object]) -> None:
        self._show_slots()
        done(self._run(request, inference))

    def _run(self, request: Request, inference: Inference) -> Answer:
        self.stats.computed(inference.items, request.header(b"demo-once"))
        try:
            return inference.run()
        except ApiError as error:
            return error_answer(error)

    def _cost_s(self, items: int) -> float:
        cost_s = self.options.fixed_s + items * self.options.item_s
        return max(0.0, cost_s * (1 + self.options.jitter * self._random.gauss()))

    def _show_slots(self) -> None:
        stats, running = self.stats, self._slots.running
        stats.executing, stats.queued = running, self._slots.queued
        stats.peak_executing = max(stats.peak_executing, running)

    def _dropped(self) -> None:
        self.stats.abandoned += 1

    # ------------------------------------------------------------- models
    def load(self, name: str, done: Callable[[], object]) -> None:
        """Call `done` when the model is loaded; a load in progress is joined."""
        slot = self.service.repository.slots[name]
        if slot.state == "READY":
            done()
            return
        if slot.state == "LOADING":
            self._loading[name].append(done)
            return
        slot.state = "LOADING"
        self._loading[name] = [done]
        self._loader.submit(slot.spec.load_s, lambda: self._loaded(name))

    def _loaded(self, name: str) -> None:
        self.service.repository.slots[name].state = "READY"
        self.stats.loads[name] += 1
        for done in self._loading.pop(name):
            done()


async def start(options: DemoOptions | None = None, host: str = "127.0.0.1", port: int = 0) -> DemoServer:
    """A running demo server; the caller closes it."""
    server = DemoServer(options or DemoOptions())
    await server.listen(host, port)
    return server
