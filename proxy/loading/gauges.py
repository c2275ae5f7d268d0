"""What the metrics page reads of the planner at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.loading.planner import Planner

    Sampler = Callable[[], Iterable[tuple[tuple[str, ...], float]]]

__all__ = ("samplers",)


def samplers(planner: Planner) -> dict[str, Sampler]:
    """Readers by metric name."""
    residency, ledger = planner.state.residency, planner.state.ledger

    def seconds() -> Iterable[tuple[tuple[str, ...], float]]:
        totals = list(ledger.totals.values())
        yield ("saved",), sum(each.saved_s for each in totals)
        yield ("wasted",), sum(each.wasted_s for each in totals)
        yield ("forgone",), sum(each.forgone_s for each in totals)

    return {
        "model_state": lambda: [((slot.name, slot.state.value), 1.0) for slot in residency.slots.values()],
        "model_resident_bytes": lambda: [((s.name,), s.held) for s in residency.slots.values() if s.held],
        "model_budget_bytes": lambda: [(("total",), planner.policy.budget), (("used",), residency.used)],
        "model_churn_ratio": lambda: [((), residency.churn)],
        "predictions_total": lambda: [
            ((cause, outcome), count)
            for cause, totals in ledger.totals.items()
            for outcome, count in totals.outcomes.items()
        ],
        "prediction_seconds_total": seconds,
    }
