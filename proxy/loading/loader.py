"""The loader: carries out what the planner decides, against a real backend.

Owned by the app as a component. It owns a control session, one task for each running load or unload, one that
lists the backend's models now and then, one that writes snapshots, and one timer at the planner's next
wake-up. It waits for the backend alone, and never makes a request wait unless its model is known to be cold;
when the backend has no control interface it does nothing. It ends with `stop`: loads are abandoned, a last
snapshot is written, and whoever still waits is refused.

On the request path, `observe` and `finished` are synchronous and O(1); `ready` is awaited only when
`is_ready` is false."""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING, Protocol

from proxy.errors import DeadlineExceeded, LoadFailed, ModelLoading, ProxyError, QueueFull
from proxy.loading.actions import Cancel, Failure, Load, Refuse, Release, Unload
from proxy.loading.control.base import ControlError, understood
from proxy.loading.history_file import HistoryKeeper
from proxy.loading.planner import Planner
from proxy.loading.report import report
from proxy.loading.residency import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from proxy.loading.actions import Action
    from proxy.loading.control.base import Control
    from proxy.loading.history import History
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.queue import Ticket
    from proxy.loading.report import LoadingReport
    from proxy.timing import Clock, Deadline, Timer

__all__ = ("Loader", "LoaderEvents")

_logger = logging.getLogger(__name__)
_UNLOAD_TIMEOUT_S = 60.0
_LISTING_TIMEOUT_S = 10.0
_SOON_S = 0.5


class LoaderEvents(Protocol):
    """Who counts what the loader does."""

    def loaded(self, model: str, cause: str, result: str, span_s: float) -> None:
        """A load ended after `span_s`; `result` is ``ok`` or why it failed."""

    def cold(self, model: str) -> None:
        """A request found its model not loaded."""

    def waited(self, model: str, span_s: float) -> None:
        """A request waited `span_s` for its model, until it was ready or refused."""


class Loader:
    """One backend's models, loaded ahead of need.

    `connect` gives the backend's control, or None when it has none; it raises ControlError until the backend
    answers. `warm` sends a model's warm-up request, if it has one. `wall` gives seconds since the epoch; it
    is read once, and from then on the `clock` runs."""

    def __init__(
        self,
        policy: LoadingPolicy,
        history: History,
        connect: Callable[[], Awaitable[Control | None]],
        warm: Callable[[str], Awaitable[None]],
        events: LoaderEvents,
        *,
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        self.planner = Planner(policy, history)
        self.protocol = ""
        self._policy = policy
        self._keeper = HistoryKeeper(policy.history.file, history, clock, policy.history.every)
        self._connect = connect
        self._warm = warm
        self._events = events
        self._clock = clock
        self._epoch = wall() - clock.now()
        self._control: Control | None = None
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at = inf
        self._look = asyncio.Event()
        self._is_over = False

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Read the history and begin to look for the backend; an unreachable one is no reason not to start."""
        await self._keeper.read()
        self._spawn(self._keeper.run(), "loading-snapshots")
        self._spawn(self._watch(), "loading-watch")

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: requests that wait are the listener's to drain."""

    async def stop(self) -> None:
        """Abandon what runs, refuse who waits, write a last snapshot."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ModelLoading("the proxy is stopping"))
        await self._keeper.write()

    # ------------------------------------------------------------- the request path
    def observe(self, model: str, session: str = "") -> None:
        """A request for `model` starts; `finished` follows exactly once. O(1), cannot fail, cannot wait."""
        slot = self.planner.state.residency.slots.get(model)
        if slot is None:
            return
        if slot.state not in {State.READY, State.UNKNOWN}:
            self._events.cold(model)
        if self.planner.observe(model, self._now(), session):
            self._turn()

    def is_ready(self, model: str) -> bool:
        """Whether a request for `model` may go on without `ready`."""
        return self.planner.is_ready(model)

    async def ready(self, model: str, deadline: Deadline) -> None:
        """Return once `model` is ready.

        Raises ModelLoading (with the time after which to come back), QueueFull, LoadFailed or
        DeadlineExceeded. Cancelling it takes the request out of the queue; the load goes on while others wait.
        """
        began = self._now()
        ticket = self.planner.wait(model, began, deadline + self._epoch)
        if isinstance(ticket, Refuse):
            self._turn()
            raise _error(ticket)
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._turn()
        try:
            await future
        except ModelLoading as error:
            if deadline <= self._clock.now():
                raise DeadlineExceeded(str(error), retry_after_s=error.retry_after_s) from error
            raise
        finally:
            del self._waiting[ticket]
            if self.planner.leave(ticket):
                self._turn()
            self._events.waited(model, self._now() - began)

    def answered(self, model: str, status: int, body: bytes, span_s: float) -> bool:
        """The backend answered a request for `model` after `span_s`; True when it should be sent once more.

        That is so when the answer says, in this dialect, that the model is not loaded although it was believed
        to be: then it counts as unloaded, and `ready` brings it back. `body` may be a beginning of the answer.
        """
        if status < 400:
            self.planner.state.governor.served(model, span_s)
            return False
        if self._control is None or not self._control.is_not_ready(status, body):
            return False
        if not self.planner.not_ready(model, self._now()):
            return False
        self._look_soon()
        return True

    def finished(self, model: str, run_s: float) -> None:
        """A request that was observed ends, `run_s` after the backend had it. O(1), cannot fail."""
        if self.planner.finished(model, self._now(), run_s):
            self._turn()
        elif self.planner.wakeup() < self._timer_at:
            self._plan_wakeup()

    # ------------------------------------------------------------- the operator
    def load(self, model: str) -> None:
        """Load `model` although nobody waits."""
        self.planner.order(model, self._now())
        self._turn()

    def unload(self, model: str) -> str:
        """Unload `model`; why not, or empty."""
        why_not = self.planner.evict(model, self._now())
        self._turn()
        return why_not

    def pin(self, model: str, *, is_pinned: bool) -> None:
        """Never evict `model`, or no longer never."""
        self.planner.pin(model, self._now(), is_pinned=is_pinned)
        self._turn()

    def is_managed(self, model: str) -> bool:
        """Whether the backend or the configuration knows `model`."""
        return model in self.planner.state.residency.slots

    def snapshot(self) -> LoadingReport:
        """Everything about the models as of now."""
        return report(self.planner, self._now(), self.protocol)

    def readiness(self) -> tuple[bool, str]:
        """Whether the models of `loading.preload` are loaded; one whose load failed keeps nobody waiting."""
        slots = self.planner.state.residency.slots
        if not self.planner.state.acts:
            return True, ""
        missing = [
            name
            for name in self._policy.preload
            if name not in slots or slots[name].state not in {State.READY, State.FAILED}
        ]
        return not missing, f"not loaded yet: {', '.join(missing)}"

    # ------------------------------------------------------------- effects
    def _turn(self) -> None:
        """Let the planner decide, carry it out, and set the timer."""
        if self._is_over:
            return
        for action in self.planner.decide(self._now()):
            self._carry_out(action)
        self._plan_wakeup()

    def _plan_wakeup(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = self.planner.wakeup()
        if self._timer_at < inf:
            self._timer = self._clock.call_at(self._timer_at - self._epoch, self._turn)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Load(model=model):
                self._loads[model] = self._spawn(self._load(action), f"load-{model}")
                _logger.info("load %s: %s", model, action.why)
            case Unload(model=model):
                self._spawn(self._unload(model), f"unload-{model}")
                _logger.info("unload %s: %s", model, action.why)
            case Cancel(model=model):
                _logger.warning("give up loading %s: %s", model, action.why)
                if model in self._loads:
                    self._loads.pop(model).cancel()
                self._spawn(self._unload(model), f"unload-{model}")
            case Release(ticket=ticket):
                self._settle(ticket, None)
            case Refuse(ticket=ticket):
                self._settle(ticket, _error(action))

    def _settle(self, ticket: Ticket, error: ProxyError | None) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    async def _load(self, action: Load) -> None:
        model = action.model
        began = self._clock.now()
        result = "ok"
        try:
            with understood():
                size = await self._controlled().load(model)
            await self._warm(model)
        except ControlError as error:
            result = error.kind
            _logger.warning("loading %s failed: %s", model, error)
            self._loads.pop(model, None)
            self.planner.load_failed(model, self._now(), Failure(error.kind, error.detail))
        else:
            self._loads.pop(model, None)
            self.planner.loaded(model, self._now(), self._clock.now() - began, size)
        self._events.loaded(model, action.cause, result, self._clock.now() - began)
        self._turn()

    async def _unload(self, model: str) -> None:
        try:
            with understood():
                async with asyncio.timeout(_UNLOAD_TIMEOUT_S):
                    await self._controlled().unload(model)
        except (ControlError, TimeoutError) as error:
            is_final = not isinstance(error, ControlError) or error.kind != "unreachable"
            _logger.warning("unloading %s failed: %s", model, error or "no answer")
            self.planner.unload_failed(model, self._now(), str(error) or "no answer", is_final=is_final)
            self._look_soon()
        else:
            self.planner.unloaded(model, self._now())
        self._turn()

    def _controlled(self) -> Control:
        if self._control is None:
            raise ControlError("unreachable", "the backend has not answered yet")
        return self._control

    # ------------------------------------------------------------- watching the backend
    async def _watch(self) -> None:
        """Find the backend's dialect, then list its models again and again."""
        while True:
            try:
                if self._control is None and not await self._find():
                    return
                await self._reconcile()
            except (ControlError, TimeoutError) as error:
                _logger.info("models not listed: %s", error or "no answer")
            foreign = any(s.cause == "foreign" for s in self.planner.state.residency.loading.values())
            await self._pause(_SOON_S if foreign else self._policy.control.every)

    async def _find(self) -> bool:
        with understood():
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                self._control = await self._connect()
        if self._control is None:
            self.protocol = "none"
            _logger.info("the backend offers no way to load models: nothing is managed")
            return False
        self.protocol = self._control.protocol
        self.planner.limit(can_unload=self._control.can_unload, can_cancel=self._control.can_cancel)
        return True

    async def _reconcile(self) -> None:
        names = tuple(dict.fromkeys((*self._policy.preload, *self._policy.models)))
        asked_at = self._now()
        with understood():
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                listing = await self._controlled().listing(names)
        if self.planner.reconcile(listing, asked_at, self._now()):
            _logger.warning("the backend has restarted: loading what was most valuable")
        self._turn()

    async def _pause(self, span_s: float) -> None:
        timer = self._clock.call_at(self._clock.now() + span_s, self._look.set)
        try:
            await self._look.wait()
        finally:
            timer.cancel()
            self._look.clear()

    def _look_soon(self) -> None:
        self._look.set()

    # ------------------------------------------------------------- helpers
    def _now(self) -> float:
        return self._clock.now() + self._epoch

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%s failed", task.get_name(), exc_info=error)


def _error(refusal: Refuse) -> ProxyError:
    model = refusal.ticket.model
    after = refusal.retry_after_s
    match refusal.reason:
        case "full":
            return QueueFull(f"model {model} is loading and {refusal.detail}", retry_after_s=after)
        case "failed":
            return LoadFailed(f"model {model} could not be loaded: {refusal.detail}", retry_after_s=after)
        case "no_room":
            return ModelLoading(f"no room for model {model}: {refusal.detail}")
        case _:
            return ModelLoading(
                f"model {model} is loading, ready in about {after:.1f} s", retry_after_s=after
            )
