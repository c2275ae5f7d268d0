"""Whatever happens, in whatever order, the loading planner keeps its promises.

* The memory of models that load, serve or unload never exceeds the budget.
* No model is unloaded while the backend works on a request for it.
* A model has at most one load running, and there are at most as many as configured.
* Everybody who waits is answered exactly once, by their deadline.
* The same events give the same decisions.
* A clock that jumps either way breaks none of this.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.loading.actions import Cancel, Failure, Load, Refuse, Release, Report, Unload
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.policy import ColdPolicy, LoadingPolicy, ModelLoadPolicy
from proxy.loading.queue import Ticket
from proxy.loading.simulate import Model, Simulation
from proxy.loading.slot import State

NAMES = "abcdef"
SIZES = dict(zip(NAMES, (1, 1, 2, 3, 4, 9), strict=True))
BUDGET = 6
START = 1_700_000_000.0

models = st.sampled_from(NAMES)


def make_policy(**changes: Any) -> LoadingPolicy:  # noqa: ANN401 - any field
    declared = {
        name: ModelLoadPolicy().model_copy(
            update={"size": size, "load_time": 5.0 * size, "group": "g" if name in "ab" else ""}
        )
        for name, size in SIZES.items()
    }
    base = {"mode": "predictive", "budget": BUDGET, "concurrency": 2, "may_evict": True, "models": declared}
    return LoadingPolicy().model_copy(update=base | changes)


class PlannerMachine(RuleBasedStateMachine):
    """A planner, a backend that does what it is told in its own time, and clients."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.planner = Planner(make_policy(idle_unload="auto"), History())
        self.backend: dict[str, str] = dict.fromkeys(NAMES, "unloaded")
        self.running: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.waiting: set[Ticket] = set()
        self.answered: set[Ticket] = set()
        self.reconcile()

    # ------------------------------------------------------------- the world
    def act(self) -> None:
        for action in self.planner.decide(self.now):
            match action:
                case Load(model=name):
                    assert self.backend[name] == "unloaded", "one load for each model"
                    self.backend[name] = "loading"
                case Unload(model=name):
                    assert self.running[name] == 0, "nobody is cut off"
                    self.backend[name] = "unloading"
                case Cancel(model=name):
                    assert self.backend[name] == "loading"
                    self.backend[name] = "unloading"
                case Release(ticket=ticket):
                    self.answer(ticket)
                    self.running[ticket.model] += 1
                case Refuse(ticket=ticket):
                    self.answer(ticket)
                    self.planner.finished(ticket.model, self.now)

    def answer(self, ticket: Ticket) -> None:
        assert ticket in self.waiting, "answered once"
        self.waiting.remove(ticket)
        self.answered.add(ticket)

    # ------------------------------------------------------------- what may happen
    @rule(name=models, within=st.sampled_from([1.0, 20.0, 100.0]))
    def request(self, name: str, within: float) -> None:
        self.planner.observe(name, self.now)
        if self.planner.is_ready(name):
            self.running[name] += 1
        else:
            outcome = self.planner.wait(name, self.now, self.now + within)
            if isinstance(outcome, Ticket):
                self.waiting.add(outcome)
            else:
                self.planner.finished(name, self.now)
        self.act()

    @rule(name=models)
    def finish(self, name: str) -> None:
        if self.running[name]:
            self.running[name] -= 1
            self.planner.finished(name, self.now, 0.5)
            self.act()

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.waiting:
            ticket = data.draw(st.sampled_from(sorted(self.waiting, key=lambda t: (t.model, t.arrived))))
            self.waiting.remove(ticket)
            assert self.planner.leave(ticket)
            self.planner.finished(ticket.model, self.now)
            self.act()

    @rule(name=models, seconds=st.floats(0.1, 60))
    def load_ends(self, name: str, seconds: float) -> None:
        if self.backend[name] == "loading":
            self.backend[name] = "ready"
            self.planner.backend.loaded(name, self.now, seconds)
            self.act()

    @rule(name=models, is_loaded=st.booleans(), is_listed=st.booleans())
    def reply_is_lost(self, name: str, is_loaded: bool, is_listed: bool) -> None:
        """Whether the load was done, and whether the backend lists its models, is anybody's guess."""
        if self.backend[name] == "loading":
            self.backend[name] = "ready" if is_loaded and is_listed else "unloaded"
            self.planner.backend.load_failed(name, self.now, Failure("unreachable"))
            if is_listed:
                self.reconcile()
            else:
                self.planner.backend.silent(self.now)
                self.act()

    @rule(name=models, is_loaded=st.booleans())
    def unload_fails(self, name: str, is_loaded: bool) -> None:
        """A load that was given up may have come to its end meanwhile; the next listing tells."""
        if self.backend[name] == "unloading":
            is_cancelled = self.planner.state.slot(name).is_cancelled
            self.backend[name] = "ready" if is_loaded or not is_cancelled else "unloaded"
            self.planner.backend.unload_failed(name, self.now, "busy", is_final=False)
            self.reconcile()

    @rule(name=models, is_load=st.booleans())
    def someone_else_acts(self, name: str, is_load: bool) -> None:
        """Loads what fits, or unloads what is not in use."""
        held = sum(SIZES[each] for each, state in self.backend.items() if state != "unloaded")
        is_alone = name not in "ab" or self.backend["b" if name == "a" else "a"] == "unloaded"
        if is_load and self.backend[name] == "unloaded" and held + SIZES[name] <= BUDGET and is_alone:
            self.backend[name] = "ready"
        elif not is_load and self.backend[name] == "ready" and not self.running[name]:
            self.backend[name] = "unloaded"
        self.reconcile()

    @rule(name=models, kind=st.sampled_from(["refused", "missing", "memory"]))
    def load_fails(self, name: str, kind: Any) -> None:  # noqa: ANN401 - one of a literal
        if self.backend[name] == "loading":
            self.backend[name] = "unloaded"
            self.planner.backend.load_failed(name, self.now, Failure(kind))
            self.act()

    @rule(name=models)
    def unload_ends(self, name: str) -> None:
        if self.backend[name] == "unloading":
            self.backend[name] = "unloaded"
            self.planner.backend.unloaded(name, self.now)
            self.act()

    @rule(name=models)
    def order(self, name: str) -> None:
        self.planner.order(name, self.now)
        self.act()

    @rule(name=models)
    def evict(self, name: str) -> None:
        self.planner.evict(name, self.now)
        self.act()

    @rule(name=models, is_pinned=st.booleans())
    def pin(self, name: str, is_pinned: bool) -> None:
        self.planner.pin(name, self.now, is_pinned=is_pinned)
        self.act()

    @rule()
    def backend_restarts(self) -> None:
        """Everything that was loaded is gone; what was being loaded fails."""
        for name in NAMES:
            if self.backend[name] == "loading":
                self.backend[name] = "unloaded"
                self.planner.backend.load_failed(name, self.now, Failure("refused"))
            if self.backend[name] == "ready":
                self.backend[name] = "unloaded"
                self.running[name] = 0
                while self.planner.state.slot(name).in_flight > self.planner.state.queue.waiting(name):
                    self.planner.finished(name, self.now)
        self.now += 1.0
        self.reconcile()

    @rule()
    def reconcile(self) -> None:
        listing = {name: Report(state) for name, state in self.backend.items()}  # type: ignore[arg-type]  # states
        self.planner.backend.reconcile(listing, self.planner.backend.mark(), self.now)
        self.act()

    @rule(span=st.sampled_from([0.5, 5.0, 40.0, 300.0, 4000.0]))
    def time_passes(self, span: float) -> None:
        """As in production: the planner is called whenever it asked to be."""
        end = self.now + span
        for _ in count():
            at = self.planner.wakeup()
            if at > end:
                break
            assert _ < 10_000, "time stands still"
            self.now = max(self.now, at)
            self.act()
        self.now = end

    @rule(span=st.sampled_from([-1e6, -10.0, 1e6, 1e8]))
    def clock_jumps(self, span: float) -> None:
        self.now += span
        self.act()

    # ------------------------------------------------------------- what must hold
    @invariant()
    def memory_is_within_the_budget(self) -> None:
        residency = self.planner.state.residency
        held = sum(slot.held for slot in residency.slots.values())
        assert held == residency.used <= BUDGET
        assert residency.residents == sum(slot.is_resident for slot in residency.slots.values())

    @invariant()
    def both_sides_agree(self) -> None:
        for name, state in self.backend.items():
            ours = self.planner.state.slot(name).state
            assert ours.value == state or (ours is State.FAILED and state == "unloaded"), name

    @invariant()
    def loads_are_bounded(self) -> None:
        assert sum(state == "loading" for state in self.backend.values()) <= 2

    @invariant()
    def one_of_a_group(self) -> None:
        assert sum(self.backend[name] != "unloaded" for name in "ab") <= 1

    @invariant()
    def nobody_waits_past_the_deadline(self) -> None:
        self.act()
        assert all(ticket.deadline > self.now for ticket in self.waiting)
        assert sum(self.planner.state.queue.waiting(name) for name in NAMES) == len(self.waiting)

    @invariant()
    def requests_are_counted(self) -> None:
        for name in NAMES:
            waiting = self.planner.state.queue.waiting(name)
            assert self.planner.state.slot(name).in_flight == self.running[name] + waiting


PlannerMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestPlanner = PlannerMachine.TestCase

arrivals = st.lists(
    st.tuples(st.floats(0, 20_000), st.sampled_from(NAMES[:5]), st.floats(0, 30)), max_size=80
).map(sorted)


def world(name: str) -> Model:
    return Model(5.0 * SIZES[name], SIZES[name])


def play(trace: list[tuple[float, str, float]]) -> Simulation:
    patient = ColdPolicy().model_copy(update={"max_wait": 1e9})
    simulation = Simulation(Planner(make_policy(cold=patient, idle_unload=600.0), History()), world)
    simulation.run(trace)
    return simulation


@settings(max_examples=40, deadline=None)
@given(arrivals)
def test_every_request_of_a_trace_is_served_within_the_budget(trace: list[tuple[float, str, float]]) -> None:
    result = play(trace).result
    assert result.peak <= BUDGET
    assert result.refused == 0
    assert result.requests == len(trace)
    assert len(result.waits) == sum(result.cold_by_model.values())


@settings(max_examples=20, deadline=None)
@given(arrivals)
def test_the_same_trace_gives_the_same_actions(trace: list[tuple[float, str, float]]) -> None:
    assert play(trace).result.log == play(trace).result.log
