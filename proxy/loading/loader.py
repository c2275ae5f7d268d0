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
from math import inf
from typing import TYPE_CHECKING

from proxy.errors import DeadlineExceeded, LoadFailed, ModelLoading, ProxyError, QueueFull
from proxy.loading.actions import Cancel, Load, Refuse, Release, Unload
from proxy.loading.control.ollama import full_name
from proxy.loading.executor import Executor
from proxy.loading.history_file import HistoryKeeper
from proxy.loading.planner import Planner
from proxy.loading.report import decision_report, report
from proxy.loading.slot import State
from proxy.loading.tasks import Tasks
from proxy.loading.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.actions import Action, Prospect
    from proxy.loading.executor import Connection, LoaderEvents
    from proxy.loading.history import History
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.queue import Ticket
    from proxy.loading.report import DecisionReport, LoadingReport
    from proxy.loading.slot import Slot
    from proxy.timing import Clock, Deadline, Timer

__all__ = ("Loader",)

_LATE_S = 1e-3  # the two axes differ by an epoch, whose rounding must not make a timer early


class Loader:
    """One backend's models, loaded ahead of need.

    `wall` gives seconds since the epoch; it is read once, and from then on the `clock` runs: `epoch` is what
    an instant of the clock lacks to be one of the planner's. `renewed` is told of every model that was loaded
    anew, before anybody is let through to it: it need not be what it was; and `reached` of every sign of life
    that says more than the one before: the first listing after a silence, and each load.
    """

    def __init__(
        self,
        policy: LoadingPolicy,
        history: History,
        connector: Connection,
        events: LoaderEvents,
        *,
        clock: Clock,
        wall: Callable[[], float],
        renewed: Callable[[str], None],
        reached: Callable[[], None],
    ) -> None:
        self.planner = Planner(policy, history)
        self._state = self.planner.state
        self.epoch = wall() - clock.now()
        self._policy = policy
        self._keeper = HistoryKeeper(policy.history.file, history, clock, policy.history.every)
        self._executor = Executor(
            self.planner, connector, events, clock=clock, now=self._now, changed=self._changed
        )
        self._watcher = Watcher(
            self.planner,
            self._executor,
            events,
            clock=clock,
            now=self._now,
            renewed=renewed,
            reached=reached,
            turn=self._turn,
        )
        self._events = events
        self._renewed = renewed
        self._reached = reached
        self._clock = clock
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._tasks = Tasks()
        self._timer: Timer | None = None
        self._timer_at = inf
        self._is_over = False

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Read the history and begin to look for the backend; it may be unreachable for now."""
        await self._keeper.read()
        self._tasks.spawn(self._keeper.run(), "loading-snapshots")
        self._tasks.spawn(self._watcher.run(), "loading-watch")

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: requests that wait are the listener's to drain."""

    async def stop(self) -> None:
        """Abandon what runs, refuse who waits, write a last snapshot."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ModelLoading("the proxy is stopping"))
        await self._keeper.write()
        await self._executor.close()

    # ------------------------------------------------------------- the request path
    @property
    def acts(self) -> bool:
        """Whether models are loaded and unloaded here, or only observed."""
        return self._state.acts

    def find(self, model: str) -> Slot | None:
        """The managed model that requests mean by `model`; None when there is none."""
        slots = self._state.residency.slots
        slot = slots.get(model)
        if slot is None and model and self.protocol == "ollama":
            return slots.get(full_name(model))
        return slot

    def is_managed(self, model: str) -> bool:
        """Whether the backend or the configuration knows `model`."""
        return model in self._state.residency.slots

    def begun(self, slot: Slot, now: float, session: str = "") -> None:
        """A request that `slot` has counted is worth a look; `finished` follows exactly once. O(1)."""
        if slot.state not in {State.READY, State.UNKNOWN}:
            self._events.cold(slot.name)
        if self.planner.begun(slot, now, session):
            self._turn()

    def is_ready(self, slot: Slot) -> bool:
        """Whether a request for the model may go on without `ready`."""
        return self.planner.is_open(slot)

    async def ready(self, slot: Slot, deadline: Deadline) -> None:
        """Return once the model is ready.

        Raises ModelLoading (with the time after which to come back), QueueFull, LoadFailed, DeadlineExceeded.
        Cancelling it takes the request out of the queue; the load goes on while others wait.
        """
        began = self._now()
        ticket = self.planner.wait(slot.name, began, deadline + self.epoch)
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
            self._events.waited(slot.name, self._now() - began)

    def is_lost(self, slot: Slot, status: int, body: bytes) -> bool:
        """Whether an answer of the backend says, in its dialect, that the model is not loaded after all.

        Then it counts as unloaded, and `ready` brings it back: also for others that were under way meanwhile.
        """
        control = self._executor.control
        if control is None or not control.is_not_ready(status, body):
            return False
        if self.planner.backend.not_ready(slot.name, self._now()):
            self._watcher.look_soon()
            return True
        return not self.planner.is_open(slot)

    def finished(self, slot: Slot, now: float, run_s: float) -> None:
        """A request ends, `run_s` after the backend had it. O(1), cannot fail."""
        if slot.ends(now) and not self._state.is_blocked:
            return
        if self.planner.ended(slot, now, run_s):
            self._turn()
        elif self.planner.hint_at() < self._timer_at:
            self._plan_wakeup()

    def prospect(self, model: str, deadline: Deadline) -> Prospect | None:
        """What a request for `model` would meet; None when it is not managed. Changes nothing."""
        return self.planner.prospect(model, self._now(), deadline + self.epoch)

    # ------------------------------------------------------------- the operator
    @property
    def protocol(self) -> str:
        """The backend's dialect; ``none`` when it has none, empty until it has answered."""
        return self._watcher.protocol

    def load(self, model: str) -> str:
        """Load `model` although nobody waits; why not, or empty."""
        if not self._state.acts:
            return f"mode {self._policy.mode} loads nothing"
        slot = self.find(model)
        if slot is not None and slot.state is State.READY:
            return "loaded already"
        self.planner.order(model, self._now())
        self._turn()
        return ""

    def unload(self, model: str) -> str:
        """Unload `model`; why not, or empty."""
        if not self._state.acts:
            return f"mode {self._policy.mode} unloads nothing"
        why_not = self.planner.evict(model, self._now())
        self._turn()
        return why_not

    def pin(self, model: str, *, is_pinned: bool) -> None:
        """Never evict `model`, or no longer never."""
        self.planner.pin(model, self._now(), is_pinned=is_pinned)
        self._turn()

    def why(self, model: str) -> list[DecisionReport]:
        """The latest decisions about `model`, newest first."""
        return [decision_report(decision) for decision in self.planner.why(model)]

    def snapshot(self) -> LoadingReport:
        """Everything about the models as of now."""
        return report(self.planner, self._now(), self.protocol)

    def readiness(self) -> tuple[bool, str]:
        """Whether the models of `loading.preload` are loaded; one that cannot be keeps nobody waiting."""
        missing = [] if self.protocol == "none" else self.planner.missing()
        return not missing, f"not loaded yet: {', '.join(missing)}" if missing else ""

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
            self._timer = self._clock.call_at(self._timer_at - self.epoch + _LATE_S, self._turn)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Load():
                self._executor.load(action)
            case Unload():
                self._executor.unload(action)
            case Cancel():
                self._executor.cancel(action)
            case Release(ticket=ticket):
                self._settle(ticket, None)
            case _:
                self._settle(action.ticket, _error(action))

    def _settle(self, ticket: Ticket, error: ProxyError | None) -> None:
        future = self._waiting.get(ticket)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    # ------------------------------------------------------------- helpers
    def _now(self) -> float:
        return self._clock.now() + self.epoch

    def _changed(self, *, is_doubtful: bool = False, renewed: str = "") -> None:
        """The backend did something; `is_doubtful` when it had better be asked what."""
        if renewed:
            self._reached()
            self._renewed(renewed)
        if is_doubtful:
            self._watcher.look_soon()
        self._turn()


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
