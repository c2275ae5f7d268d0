"""What the loading policy costs: processor time for a request, and memory for a model."""

from __future__ import annotations

import gc
import tracemalloc
from time import process_time
from typing import TYPE_CHECKING

from bench.tables import markdown
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.simulate import Simulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report import Report
    from proxy.loading.actions import Action
    from proxy.loading.history import Arrival
    from proxy.loading.policy import LoadingPolicy

__all__ = ("cost",)

_READINGS = 10_000
_MODELS = 500
_REQUESTS_EACH = 40


class _Timed(Planner):
    """Counts the time that requests spend in it, that of what they bring about, and that of timers.

    What it takes to read the clock is taken off.
    """

    __slots__ = ("_due", "_is_timer", "_reading_s", "decided", "spent", "timers")

    def __init__(self, policy: LoadingPolicy, history: History) -> None:
        super().__init__(policy, history)
        self._reading_s = _reading_s()
        self._due = float("inf")
        self._is_timer = False
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self.spent = self.decided = self.timers = 0.0

    def observe(self, model: str, now: float, session: str = "") -> bool:
        """See `Planner`."""
        began = process_time()
        result = super().observe(model, now, session)
        self._is_timer = False
        self.spent += process_time() - began - self._reading_s
        return result

    def finished(self, model: str, now: float, run_s: float = 0.0) -> bool:
        """See `Planner`."""
        began = process_time()
        result = super().finished(model, now, run_s)
        self._is_timer = False
        self.spent += process_time() - began - self._reading_s
        return result

    def decide(self, now: float) -> list[Action]:
        """See `Planner`."""
        began = process_time()
        result = super().decide(now)
        self._is_timer = now >= self._due
        self._count(began)
        return result

    def wakeup(self) -> float:
        """See `Planner`."""
        began = process_time()
        self._due = super().wakeup()
        self._count(began)
        return self._due

    def _count(self, began: float) -> None:
        span = process_time() - began - self._reading_s
        if self._is_timer:
            self.timers += span
        else:
            self.decided += span


def _reading_s() -> float:
    """What one span between two readings of the clock contains of them."""
    spans = [-process_time() + process_time() for _ in range(_READINGS)]
    return sum(spans) / _READINGS


def cost(report: Report, trace: Sequence[Arrival], tight: LoadingPolicy, roomy: LoadingPolicy) -> None:
    """Processor time on a trace whose models do not fit and under steady traffic; memory for a model."""
    sparse = _Timed(tight, History())
    count = Simulation(sparse).run(trace).requests
    busy = _Timed(roomy, History())
    simulation = Simulation(busy)
    simulation.run([(600.0 * n, f"m{n}", 0.1) for n in range(10)])  # loaded by now
    busy.reset()
    steady = [(10_000 + n * 0.002, f"m{n % 10}", 0.001) for n in range(200_000)]
    simulation.run(steady)
    cells = []
    cases = (
        ("87 models, a request in 42 s", sparse, count),
        ("10 models, 500 requests/s", busy, len(steady)),
    )
    for name, planner, requests in cases:
        spans = [1e6 * span / requests for span in (planner.spent, planner.decided, planner.timers)]
        cells.append((name, *(f"{span:.1f}" for span in spans)))
        report.objective(f"{name}: update and decide", [spans[0] + spans[1]], most=20, unit="µs")
    head = ("µs for each request", "in its way", "decisions that it brings about", "timers meanwhile")
    each = _bytes_each(roomy)
    report.objective("memory for a model", [each], most=4096, unit="bytes")
    report.section("Cost", f"{markdown(head, cells)}\n\nA model takes {each:,.0f} bytes, all included.")
    report.data["cost"] = [dict(zip(head, row, strict=True)) for row in cells]
    report.data["bytes_for_a_model"] = round(each)


def _bytes_each(policy: LoadingPolicy) -> float:
    """What a model with a past and a slot takes; the list of recent arrivals is bounded and left out."""
    gc.collect()
    tracemalloc.start()
    try:
        simulation = Simulation(Planner(policy, History()))
        before, _ = tracemalloc.get_traced_memory()
        simulation.run([(60.0 * n, f"model-{n % _MODELS}", 0.1) for n in range(_MODELS * _REQUESTS_EACH)])
        planner = simulation.planner
        del simulation
        planner.history.recent.clear()
        planner.state.ledger.decisions.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / _MODELS
