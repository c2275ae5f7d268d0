"""What an operator sees of the models: states, numbers, predictions and the reasons of decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from proxy.loading.ledger import Decision
    from proxy.loading.planner import Planner
    from proxy.loading.slot import Slot

__all__ = ("DecisionReport", "LoadingReport", "ModelReport", "PredictionReport", "decision_report", "report")

_RECENT_DECISIONS = 50


class ModelReport(msgspec.Struct, frozen=True):
    """One managed model. Spans in seconds, sizes in bytes; instants are seconds since the epoch."""

    name: str
    state: str
    cause: str
    size: int
    is_size_known: bool
    """Whether the size was declared or reported; else it is a guess."""
    pinned: bool
    draining: bool
    in_flight: int
    waiting: int
    load_s: float
    loads_measured: int
    rate: float
    """Requests per second."""
    worth: float
    """Seconds of waiting saved for each GiB and second in memory; the least goes first."""
    idle_s: float
    expected_at: float | None
    """When the next request is expected, of a model that is periodic."""
    trust: float
    """Share of its past windows in which the next request came, recent ones weighing more."""
    failures: int
    detail: str


class PredictionReport(msgspec.Struct, frozen=True):
    """What became of one cause's predictions since the start."""

    hit: int
    late: int
    wasted: int
    suppressed: int
    precision: float | None
    saved_s: float
    wasted_s: float
    forgone_s: float
    """What acting on the suppressed ones would have saved."""
    brier: float
    """Mean squared error of the stated probabilities; 0 is perfect."""


class DecisionReport(msgspec.Struct, frozen=True):
    """A decision and its reason."""

    at: float
    model: str
    action: str
    why: str


class LoadingReport(msgspec.Struct, frozen=True):
    """Everything about one backend's models."""

    mode: str
    protocol: str
    budget: int
    used: int
    churn: float
    pressure: float
    queue: int
    """Models that somebody waits for."""
    booting: int
    """Models that belong in memory after a (re)start and are not there yet."""
    models: list[ModelReport]
    predictions: dict[str, PredictionReport]
    decisions: list[DecisionReport]
    """The latest, newest first."""


def report(planner: Planner, now: float, protocol: str) -> LoadingReport:
    """The state of `planner` at `now`."""
    state = planner.state
    decisions = list(state.ledger.decisions)[: -_RECENT_DECISIONS - 1 : -1]
    return LoadingReport(
        mode=planner.policy.mode,
        protocol=protocol,
        budget=planner.policy.budget,
        used=state.residency.used,
        churn=round(state.residency.churn, 3),
        pressure=round(state.governor.pressure, 3),
        queue=len(state.queue),
        booting=len(state.boot),
        models=[_model(planner, slot, now) for _, slot in sorted(state.residency.slots.items())],
        predictions={cause: _predictions(planner, cause) for cause in sorted(state.ledger.totals)},
        decisions=[decision_report(decision) for decision in decisions],
    )


def decision_report(decision: Decision) -> DecisionReport:
    """`decision` as a document."""
    return DecisionReport(*decision)


def _model(planner: Planner, slot: Slot, now: float) -> ModelReport:
    past = planner.history.of(slot.name, now)
    return ModelReport(
        name=slot.name,
        state=slot.state.value,
        cause=slot.cause,
        size=slot.held or slot.cost.size,
        is_size_known=slot.cost.is_size_known,
        pinned=slot.is_pinned,
        draining=slot.is_draining,
        in_flight=slot.in_flight,
        waiting=planner.state.queue.waiting(slot.name),
        load_s=round(slot.cost.seconds, 3),
        loads_measured=slot.cost.samples,
        rate=round(past.rate(now), 6),
        worth=round(planner.state.residency.eviction.rank(slot, now), 9),
        idle_s=0.0 if slot.in_flight else round(max(0.0, now - past.last_end), 3),
        expected_at=planner.state.ahead.expected_at(slot.name),
        trust=round(past.trust, 3),
        failures=slot.failures,
        detail=slot.detail,
    )


def _predictions(planner: Planner, cause: str) -> PredictionReport:
    ledger = planner.state.ledger
    totals = ledger.totals[cause]
    return PredictionReport(
        hit=totals.outcomes["hit"],
        late=totals.outcomes["late"],
        wasted=totals.outcomes["wasted"],
        suppressed=totals.outcomes["suppressed"],
        precision=ledger.precision(cause),
        saved_s=round(totals.saved_s, 3),
        wasted_s=round(totals.wasted_s, 3),
        forgone_s=round(totals.forgone_s, 3),
        brier=round(totals.brier / totals.scored, 4),
    )
