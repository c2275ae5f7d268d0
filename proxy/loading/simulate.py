"""A trace through the production policy, without a backend and without waiting.

Theory of operation
-------------------
A discrete-event simulation: one heap of arrivals, ends of requests, ends of loads and the planner's own
wake-ups. The backend is ideal: a load takes its model's load time, an unload is immediate, memory is
exactly the model's size. Nothing is random, so the same trace and policy give the same actions, event for
event.

A trace says when which model was asked for and how long the request ran; it seldom says how large the
models are or how long they take to load. `assign` gives each model a size of 2.1, 4.3 or 6.9 GB and a load
time between the 10th and 90th percentile of what a public trace of generative models measured (2.6, 22.7,
42.0 s at p10, p50, p90), by the CRC-32 of its name. Absolute results depend on that; their order was stable
over budgets.

Requests wait without limit here (`deadline` = infinity), since a refused request would leave the
comparison: the mean wait is over all requests, warm ones counting as zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from proxy.loading.actions import Cancel, Load, Refuse, Release, Unload
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.slot import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.loading.actions import Action
    from proxy.loading.history import Arrival
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.queue import Ticket

__all__ = ("Model", "Result", "Simulation", "assign", "simulate")

_SIZES = (2.1e9, 4.3e9, 6.9e9)
_LOAD_S = ((0.1, 2.6), (0.5, 22.7), (0.9, 42.0))


class Model(NamedTuple):
    """What the simulated backend needs for one model."""

    load_s: float
    size: int


def assign(name: str) -> Model:
    """A size and a load time for a model of which only the name is known; always the same."""
    digest = crc32(name.encode())
    share = 0.1 + 0.8 * ((digest >> 8) % 1000) / 999
    (p0, s0), (p1, s1) = _LOAD_S[:2] if share <= _LOAD_S[1][0] else _LOAD_S[1:]
    return Model(s0 + (s1 - s0) * (share - p0) / (p1 - p0), int(_SIZES[digest % 3]))


@dataclass(slots=True)
class Result:
    """What a policy did with a trace. Spans in seconds."""

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    """One for each request that found its model not ready."""
    cold_by_model: dict[str, int] = field(default_factory=dict)
    requests_by_model: dict[str, int] = field(default_factory=dict)
    load_s: float = 0.0
    loads: int = 0
    churned: int = 0
    refused: int = 0
    gib_h: float = 0.0
    peak: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    log: list[tuple[float, str]] = field(default_factory=list)

    @property
    def cold_rate(self) -> float:
        """Share of requests that found their model not ready."""
        return len(self.waits) / self.requests if self.requests else 0.0

    @property
    def mean_wait(self) -> float:
        """Mean over all requests."""
        return sum(self.waits) / self.requests if self.requests else 0.0

    def wait_quantile(self, share: float) -> float:
        """Of all requests, warm ones waiting zero."""
        rank = int(share * self.requests) - (self.requests - len(self.waits))
        return sorted(self.waits)[min(rank, len(self.waits) - 1)] if rank >= 0 and self.waits else 0.0

    @property
    def precision(self) -> float | None:
        """Share of speculative loads that somebody used; None when there were none."""
        true = self.outcomes.get("hit", 0) + self.outcomes.get("late", 0)
        acted = true + self.outcomes.get("wasted", 0)
        return true / acted if acted else None

    def model_cold_quantile(self, share: float) -> float:
        """Over models, each counting once: the cold rate that `share` of them do not exceed."""
        rates = sorted(self.cold_by_model.get(m, 0) / n for m, n in self.requests_by_model.items())
        return rates[min(int(share * len(rates)), len(rates) - 1)] if rates else 0.0


class Simulation:
    """One planner over one trace; `models` tells what each costs."""

    def __init__(
        self, planner: Planner, models: Callable[[str], Model] = assign, *, count_from: float = -inf
    ) -> None:
        self.planner = planner
        self.result = Result()
        self._count_from = count_from
        self._models = models
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._runs: dict[Ticket, float] = {}
        self._loading: dict[str, int] = {}
        self._wake_at = inf
        self._stamp: float | None = None

    def run(self, trace: Iterable[Arrival], until: float = inf) -> Result:
        """Play the trace to its end, then let what is still running finish."""
        for at, model, run_s in trace:
            if at >= until:
                break
            self._play(at)
            self._arrive(at, model, run_s)
        self._play(until, is_over=True)
        for totals in self.planner.state.ledger.totals.values():
            for outcome, count in totals.outcomes.items():
                self.result.outcomes[outcome] = self.result.outcomes.get(outcome, 0) + count
        return self.result

    def manage(self, names: Iterable[str], now: float) -> None:
        """All `names` exist at the backend, none of them loaded."""
        for name in names:
            self._manage(name, now)

    def wake(self, now: float) -> None:
        """Something was told to the planner behind the simulation's back: let it decide."""
        self._decide(now)

    def _manage(self, name: str, now: float) -> None:
        slot = self.planner.state.manage(name, now)
        if slot.state is State.UNKNOWN:
            model = self._models(name)
            slot.cost.declare(model.load_s, model.size)
            self.planner.state.residency.move(slot, State.UNLOADED, now)

    # ------------------------------------------------------------- events
    def _play(self, until: float, *, is_over: bool = False) -> None:
        while self._heap and self._heap[0][0] <= until:
            at, _, event = heappop(self._heap)
            if is_over and not self._runs and not self._loading:
                return
            self._integrate(at)
            event(at)

    def _push(self, at: float, event: Callable[[float], None]) -> None:
        self._count += 1
        heappush(self._heap, (at, self._count, event))

    def _arrive(self, now: float, model: str, run_s: float) -> None:
        self._integrate(now)
        self._manage(model, now)
        counts = now >= self._count_from
        result = self.result
        if counts:
            result.requests += 1
            result.requests_by_model[model] = result.requests_by_model.get(model, 0) + 1
        self.planner.observe(model, now)
        if self.planner.is_ready(model):
            self._serve(model, now, run_s)
            return
        if counts:
            result.cold_by_model[model] = result.cold_by_model.get(model, 0) + 1
        ticket = self.planner.wait(model, now, inf)
        if isinstance(ticket, Refuse):
            self._refuse(ticket, now)
        else:
            self._runs[ticket] = run_s
        self._decide(now)

    def _serve(self, model: str, now: float, run_s: float) -> None:
        def end(at: float) -> None:
            if self.planner.finished(model, at, run_s):
                self._decide(at)
            elif self.planner.hint_at() < self._wake_at:
                self._plan_wake()

        self._push(now + run_s, end)

    def _decide(self, now: float) -> None:
        todo = self.planner.decide(now)
        while todo:
            for action in todo:
                self.result.log.append((now, f"{type(action).__name__} {_model(action)}"))
                self._carry_out(action, now)
            todo = self.planner.decide(now)
        self._plan_wake()

    def _plan_wake(self) -> None:
        at = self.planner.wakeup()
        if at < self._wake_at:
            self._wake_at = at
            self._push(at, self._wake)

    def _wake(self, now: float) -> None:
        if now >= self._wake_at:
            self._wake_at = inf
            self._decide(now)

    # ------------------------------------------------------------- effects
    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Load(model=model):
                self._load(model, now)
            case Unload(model=model):
                self.planner.backend.unloaded(model, now)
            case Cancel(model=model):
                del self._loading[model]
                self.planner.backend.unloaded(model, now)
            case Release(ticket=ticket):
                self._waited(ticket, now)
                self._serve(ticket.model, now, self._runs.pop(ticket))
            case _:
                self._refuse(action, now)

    def _refuse(self, refusal: Refuse, now: float) -> None:
        self._runs.pop(refusal.ticket, None)
        self.result.refused += 1
        self._waited(refusal.ticket, now)
        self.planner.finished(refusal.ticket.model, now)

    def _waited(self, ticket: Ticket, now: float) -> None:
        if ticket.arrived >= self._count_from:
            self.result.waits.append(now - ticket.arrived)

    def _load(self, name: str, now: float) -> None:
        model = self._models(name)
        slot = self.planner.state.residency.slots[name]
        self.result.loads += 1
        self.result.churned += now - slot.unloaded_at < 600.0
        self._count += 1
        generation = self._loading[name] = self._count

        def done(at: float) -> None:
            self.result.load_s += model.load_s
            if self._loading.get(name) == generation:
                del self._loading[name]
                self.planner.backend.loaded(name, at, model.load_s, model.size)
                self._decide(at)

        self._push(now + model.load_s, done)

    def _integrate(self, now: float) -> None:
        used = self.planner.state.residency.used
        if self._stamp is not None:
            self.result.gib_h += used / (1 << 30) * max(0.0, now - self._stamp) / 3600
        self._stamp = now
        self.result.peak = max(self.result.peak, used)


def _model(action: Action) -> str:
    return action.ticket.model if isinstance(action, Release | Refuse) else action.model


def simulate(
    trace: Sequence[Arrival],
    policy: LoadingPolicy,
    models: Callable[[str], Model] = assign,
    make: Callable[[LoadingPolicy, History], Planner] = Planner,
    count_from: float = -inf,
) -> Result:
    """One policy over one trace from an empty history; `make` exchanges parts of the planner.

    Requests before `count_from` are played but not counted: the first use of each model is cold whatever
    the policy.
    """
    patient = policy.cold.model_copy(update={"max_wait": inf, "queue": 1 << 30})
    return Simulation(
        make(policy.model_copy(update={"cold": patient}), History()), models, count_from=count_from
    ).run(trace)
