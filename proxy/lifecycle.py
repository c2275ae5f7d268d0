"""STARTING → READY → DRAINING → STOPPED: how the process begins, and how it ends without losing a request.

`Lifecycle.run` owns the root task group and everything started within it. Components are started in the order
given and stopped in reverse. It waits for a drain request (a signal, or ``POST /drain``); then

1. the state is DRAINING at once, so readiness fails;
2. for `ready_lag` new requests are still accepted, so that load balancers have time to look elsewhere;
3. every component drains at the same time: listeners stop accepting and answer what they admitted, lanes send
   what they hold; `grace` bounds this;
4. components are stopped, the last started first.

A second signal cuts 2 and 3 short. A request to drain while still starting stops at once: nothing was
admitted. A component that fails to start ends the run with its own error after the others were stopped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from proxy.ingress.policy import DrainPolicy
    from proxy.timing import Clock

__all__ = ("Component", "Lifecycle", "State")

_logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Component(Protocol):
    """Something with a life of its own: a listener, a pool, the telemetry."""

    async def start(self) -> None:
        """Acquire what it needs; when it returns, it works. Whatever it raises ends the run."""

    async def drain(self, deadline: float) -> None:
        """Take nothing new and return when nothing admitted is left; cancelled at `deadline` (clock time)."""

    async def stop(self) -> None:
        """Release everything at once. Called exactly once after `start` was entered, whatever came of it."""


class Lifecycle:
    """The state machine; one for each process, used on its event loop only."""

    def __init__(self, clock: Clock, policy: DrainPolicy) -> None:
        self.state = State.STARTING
        self._clock = clock
        self._policy = policy
        self._tasks: asyncio.TaskGroup | None = None
        self._owned: set[asyncio.Task[None]] = set()
        self._watchers: list[Callable[[State], object]] = []
        self._asked = asyncio.Event()
        self._drained = asyncio.Event()
        self._is_started = False
        self._is_hurried = False
        self._phase: asyncio.Timeout | None = None

    # ------------------------------------------------------------- what others ask
    @property
    def is_started(self) -> bool:
        """Whether everything has been started, once; stays true until the process ends."""
        return self._is_started

    @property
    def is_draining(self) -> bool:
        """Whether the end has begun."""
        return self.state is State.DRAINING or self.state is State.STOPPED

    def on_change(self, callback: Callable[[State], object]) -> None:
        """Call `callback` with each new state, as it is entered."""
        self._watchers.append(callback)

    def spawn(self, work: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` as a task of the root group: cancelled at the end, and its failure ends the run."""
        if self._tasks is None:
            raise RuntimeError("tasks can be spawned only while the lifecycle runs")
        task = self._tasks.create_task(work, name=name)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    # ------------------------------------------------------------- what others want
    def request_drain(self) -> None:
        """Begin to leave; idempotent. While still starting, stop at once."""
        if self.state is State.STARTING:
            self.request_stop()
        elif self.state is State.READY:
            self._enter(State.DRAINING)
        self._asked.set()

    def request_stop(self) -> None:
        """Leave without waiting for anybody; idempotent."""
        if self._is_hurried:
            return
        self._is_hurried = True
        self._asked.set()
        if self._phase is not None:
            self._phase.reschedule(asyncio.get_running_loop().time())

    def on_signal(self) -> None:
        """The first signal drains, the second stops."""
        if self.is_draining:
            self.request_stop()
        else:
            self.request_drain()

    @contextmanager
    def signals(self, also: Mapping[signal.Signals, Callable[[], object]] | None = None) -> Iterator[None]:
        """Handle SIGTERM and SIGINT within the block, and whatever `also` maps (such as SIGHUP)."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self.on_signal, signal.SIGINT: self.on_signal, **(also or {})}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def wait_drained(self) -> None:
        """Return once nothing admitted is left, or waiting for it was given up."""
        await self._drained.wait()

    # ------------------------------------------------------------- the run
    async def run(self, components: Sequence[Component]) -> None:
        """Start `components`, stay until asked to leave, drain and stop them.

        Raises what a component's `start` or a spawned task raised, after everything was stopped; an
        ExceptionGroup when there were several.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._live(components)
        except ExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _live(self, components: Sequence[Component]) -> None:
        entered: list[Component] = []
        try:
            await self._unless_hurried(self._start(components, entered))
            await self._asked.wait()
            await self._unless_hurried(self._drain(entered))
        finally:
            self._drained.set()
            await self._stop(entered)
            for task in self._owned:
                task.cancel()

    async def _start(self, components: Sequence[Component], entered: list[Component]) -> None:
        for component in components:
            entered.append(component)
            await component.start()
        self._is_started = True
        self._enter(State.READY)

    async def _drain(self, components: Sequence[Component]) -> None:
        await self._sleep(self._policy.ready_lag)
        deadline = self._clock.now() + self._policy.grace
        timer = self._clock.call_at(deadline, self._give_up)
        try:
            async with asyncio.TaskGroup() as drains:
                for component in components:
                    drains.create_task(_logged(component.drain(deadline), "drain", component))
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        _logger.warning("drain: grace is over, requests still in flight are broken off")
        self.request_stop()

    async def _stop(self, entered: list[Component]) -> None:
        if not self.is_draining:
            self._enter(State.DRAINING)
        while entered:
            component = entered.pop()
            await _logged(component.stop(), "stop", component)
        self._enter(State.STOPPED)

    async def _unless_hurried(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` to its end or to `request_stop`, whichever is first."""
        if self._is_hurried:
            work.close()
            return
        try:
            async with asyncio.timeout(None) as self._phase:
                await work
        except TimeoutError:
            if not self._is_hurried:
                raise
        finally:
            self._phase = None

    async def _sleep(self, span_s: float) -> None:
        if span_s:
            over = asyncio.Event()
            timer = self._clock.call_at(self._clock.now() + span_s, over.set)
            try:
                await over.wait()
            finally:
                timer.cancel()

    def _enter(self, state: State) -> None:
        self.state = state
        _logger.info("state: %s", state)
        for callback in self._watchers:
            callback(state)


async def _logged(work: Coroutine[object, object, None], verb: str, component: Component) -> None:
    """Run `work`; its failure is logged, so that the other components still get their turn."""
    try:
        await work
    except Exception:
        _logger.exception("%s did not %s cleanly", type(component).__name__, verb)
